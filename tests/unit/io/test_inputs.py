"""Tests of ``conformergen.io.inputs``."""

import pytest

from conformergen.errors import InputError
from conformergen.io.inputs import read_inputs


def test_inputs_keep_order_names_and_bad_lines(tmp_path):
    path = tmp_path / "x.smi"
    path.write_bytes(b"SMILES name\r\nCCO ethanol and more\r\n\r\n# comment\nCCN\tamine\nC\xff bad\nCCC\n")
    records = list(read_inputs(str(path)))
    assert [r.name for r in records] == ["ethanol and more", "amine", "bad", "mol_000003"]
    assert records[1].smiles == "CCN"
    table = tmp_path / "x.csv"
    table.write_text("id,smiles,n_conformers\na,CCO,7\n")
    assert [(r.name, r.n_references) for r in read_inputs(str(table))] == [("a", 7)]
    with pytest.raises(InputError, match="no column"):
        list(read_inputs(str(table), smiles_column="nope"))
    with pytest.raises(InputError, match="no such file"):
        read_inputs(str(tmp_path / "missing.smi"))
