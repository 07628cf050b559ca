"""Tests of ``conformergen.datasets.folders``."""

import pytest

from conformergen.datasets.folders import data_record, load_sets, starts_are_minimised
from conformergen.errors import InputError


def test_sets_are_loaded_by_split_and_recorded_by_digest(shard_folder):
    training, validation = (load_sets([shard_folder], split) for split in ("train", "val"))
    assert (len(training), len(validation)) == (2, 1)
    assert starts_are_minimised([shard_folder])
    record = data_record([shard_folder], training, validation)
    assert record["molecules"] == 2
    assert str(shard_folder.parent) not in str(record)


def test_folder_without_molecules_to_train_on_is_refused(tmp_path):
    with pytest.raises(InputError, match="manifest"):
        load_sets([tmp_path], "train")
