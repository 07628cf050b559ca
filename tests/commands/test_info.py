"""Tests of ``conformergen.commands.info``."""

import pytest

from conformergen.checkpoint.model import load_model
from conformergen.commands.info import describe
from conformergen.errors import InputError


def test_checkpoint_is_described_with_the_digests_of_its_networks():
    facts, digests = describe("default"), load_model().digests
    assert facts["sha256"] == digests["denoiser"]
    assert facts["ranker sha256"] == digests["ranker"]
    assert facts["torsion model sha256"] == digests["torsion_model"]


def test_shards_are_described_by_their_counts(shard_folder):
    facts = describe(str(shard_folder))
    assert facts["molecules"] == 3


def test_anything_else_is_refused(tmp_path):
    with pytest.raises(InputError):
        describe(str(tmp_path))
