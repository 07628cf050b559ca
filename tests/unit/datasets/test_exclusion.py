"""Tests of ``conformergen.datasets.exclusion``."""

import pytest

from conformergen.datasets.exclusion import Exclusion, connectivity_key
from conformergen.errors import InputError
from conformergen.io.formats import RawEnsemble


def test_isomers_share_a_key_and_other_molecules_do_not():
    left, right, other = (connectivity_key(s) for s in ("C[C@H](N)O", "C[C@@H](N)O", "CC(N)N"))
    assert left == right != other


def test_molecules_are_left_out_by_name_and_by_list(tmp_path):
    listed = tmp_path / "list.smi"
    listed.write_text("C[C@@H](N)O\n")
    raws = [
        RawEnsemble(smiles=smiles, name=name, position=i, conformers=[])
        for i, (smiles, name) in enumerate((("C[C@H](N)O", "a"), ("CCO", "test_1"), ("CCN", "b")))
    ]
    exclusion = Exclusion(["test_*"], [str(listed)])
    assert [raw.name for raw in exclusion(iter(raws))] == ["b"]
    with pytest.raises(InputError):
        Exclusion([], [str(tmp_path / "missing.smi")])
