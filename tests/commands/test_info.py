"""Tests of ``conformergen.commands.info``."""

import pytest

from conformergen.checkpoint.model import load_model
from conformergen.commands.info import describe
from conformergen.errors import InputError


def test_checkpoint_is_described_with_the_digests_of_its_networks():
    assert describe("default")["networks"] == load_model().digests


def test_shards_are_described_by_their_counts(shard_folder):
    facts = describe(str(shard_folder))
    assert facts["molecules"] == 3


def test_anything_else_is_refused(tmp_path):
    with pytest.raises(InputError):
        describe(str(tmp_path))
