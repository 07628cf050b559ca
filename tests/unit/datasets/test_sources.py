"""Tests of ``conformergen.datasets.sources``."""

import pytest

from conformergen.chem import molecule_from_smiles
from conformergen.datasets.sources import PreprocessSettings, Sources
from conformergen.errors import InputError


def test_molecules_of_all_sources_are_read_in_order(tmp_path, shard_folder):
    (tmp_path / "a.smi").write_text("CCO a\nCCN b\n")
    sources = Sources([tmp_path / "a.smi", shard_folder], PreprocessSettings(split="train"))
    found = list(sources.read())
    assert [raw.name for raw in found[:2]] == ["a", "b"]
    assert len(found) == 5
    assert sources.split(molecule_from_smiles("CCO"), found[0]) == "train"


def test_shards_keep_their_splits_and_other_sources_have_none(tmp_path, shard_folder):
    sources = Sources([shard_folder], PreprocessSettings(split="keep"))
    splits = [sources.split(molecule_from_smiles(raw.smiles), raw) for raw in sources.read()]
    assert sorted(splits) == ["train", "train", "val"]
    (tmp_path / "a.smi").write_text("CCO a\n")
    with pytest.raises(InputError, match="keep is for shards"):
        Sources([tmp_path / "a.smi"], PreprocessSettings(split="keep"))
    for wrong in ({"format": "none"}, {"max_confs": 0}):
        with pytest.raises(InputError):
            PreprocessSettings(**wrong)
