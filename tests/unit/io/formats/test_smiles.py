"""Tests of ``conformergen.io.formats.smiles``."""

from conformergen.io.formats.smiles import read


def test_lines_are_ensembles_without_conformers(tmp_path):
    (tmp_path / "a.smi").write_text("CCO ethanol\nCCN amine\n")
    found = list(read(tmp_path / "a.smi"))
    assert [(raw.smiles, raw.name, raw.conformers) for raw in found] == [("CCO", "ethanol", []), ("CCN", "amine", [])]
