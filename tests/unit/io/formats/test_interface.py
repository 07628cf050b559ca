"""Tests of ``conformergen.io.formats.interface``."""

from conformergen.io.formats import READERS, detect_format


def test_formats_are_told_apart(tmp_path, shard_folder, geom_folder):
    assert detect_format(shard_folder) == "shards"
    assert detect_format(geom_folder) == "geom-rdkit"
    (tmp_path / "a.sdf.gz").touch()
    assert detect_format(tmp_path / "a.sdf.gz") == "sdf"
    assert set(READERS) == {"geom-rdkit", "mols-pickle", "sdf", "shards", "smiles", "xyz"}
