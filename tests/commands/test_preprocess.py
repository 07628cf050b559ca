"""Tests of ``conformergen.commands.preprocess``."""

import json

import pytest

from conformergen.chem import molecule_from_smiles
from conformergen.commands.preprocess import PreprocessSettings, check_sources, preprocess
from conformergen.datasets.splits import random_split
from conformergen.errors import InputError
from conformergen.io.shards import read_folder


def test_geom_folder_is_cleaned_and_counted(geom_folder, tmp_path):
    summary = preprocess([geom_folder], tmp_path / "out", PreprocessSettings(split="train"))
    assert (summary.requested, summary.done, summary.failed) == (2, 1, 1)
    assert summary.dropped == {"reacted": 1, "stereo": 1}
    (conformers,) = read_folder(tmp_path / "out")
    assert conformers.energies.tolist() == [0.0, 1.0, 2.0]
    assert conformers.source_idx.tolist() == [2, 1, 0]
    assert conformers.starts.shape == conformers.positions.shape
    assert check_sources([geom_folder], PreprocessSettings())["dropped reacted"] == 1


def test_preprocess_resumes_and_refuses_other_settings(geom_folder, tmp_path):
    out = tmp_path / "out"
    preprocess([geom_folder], out, PreprocessSettings())
    first = (out / "shard-00000.h5").read_bytes()
    stamp = (out / "shard-00000.h5").stat().st_mtime_ns
    preprocess([geom_folder], out, PreprocessSettings())
    assert (out / "shard-00000.h5").stat().st_mtime_ns == stamp
    (out / "shard-00000.h5").unlink()
    preprocess([geom_folder], out, PreprocessSettings())
    assert (out / "shard-00000.h5").read_bytes() == first
    with pytest.raises(InputError, match="other sources or settings"):
        preprocess([geom_folder], out, PreprocessSettings(max_confs=1))


def test_shards_keep_their_split_or_get_another(geom_folder, tmp_path):
    out, molecule = tmp_path / "out", molecule_from_smiles("C[C@H](N)C(=O)O")
    (tmp_path / "split.json").write_text(json.dumps({"train": [1], "val": [], "test": [0]}))
    preprocess([geom_folder], out, PreprocessSettings(split=str(tmp_path / "split.json"), starts=None))
    for split, expected in (("keep", "test"), ("train", "train"), ("random", random_split(molecule, 0))):
        settings = PreprocessSettings(split=split, starts=None)
        for name, source in (("folder", out), ("file", out / "shard-00000.h5")):
            preprocess([source], tmp_path / split / name, settings)
            assert len(list(read_folder(tmp_path / split / name, split=expected))) == 1
    with pytest.raises(InputError, match="keep is for shards"):
        preprocess([geom_folder], tmp_path / "none", PreprocessSettings(split="keep"))
    with pytest.raises(InputError, match="keep is for shards"):
        check_sources([geom_folder, out], PreprocessSettings(split="keep"))


def test_workers_give_the_same_shard(geom_folder, tmp_path):
    preprocess([geom_folder], tmp_path / "one", PreprocessSettings(), jobs=1)
    preprocess([geom_folder], tmp_path / "two", PreprocessSettings(), jobs=2)
    assert (tmp_path / "one/shard-00000.h5").read_bytes() == (tmp_path / "two/shard-00000.h5").read_bytes()


def test_exclusion_takes_stereoisomers_too(geom_folder, tmp_path):
    listed = tmp_path / "test.smi"
    listed.write_text("C[C@@H](N)C(=O)O other-enantiomer\n")
    settings = PreprocessSettings(exclude_smiles=(str(listed),))
    summary = preprocess([geom_folder], tmp_path / "out", settings)
    assert (summary.requested, summary.excluded) == (1, 1)


def test_genuine_geom_folder(shared, tmp_path):
    settings = PreprocessSettings(split="scaffold", starts=None, max_confs=1000)
    summary = preprocess([shared / "geom_rdkit_folder_sample" / "rdkit_folder"], tmp_path / "out", settings)
    assert (summary.requested, summary.done) == (10, 10)
    assert summary.conformers == 502
    assert summary.dropped == {"reacted": 1}
