"""Tests of ``conformergen.evaluation.matching``."""

import pytest

from conformergen.chem import embed, mol_with_conformers, molecule_from_smiles
from conformergen.errors import InputError
from conformergen.evaluation.matching import Matcher, provenance_of, read_both
from conformergen.io.formats import RawEnsemble


def _raw(smiles, name, *, n=1, **properties):
    molecule = molecule_from_smiles(smiles)
    mols = [mol_with_conformers(molecule, p[None]) for p in embed(molecule, n, seed=0)]
    for mol in mols:
        for key, value in properties.items():
            mol.SetProp(key, value)
    return RawEnsemble(smiles=smiles, name=name, position=0, conformers=mols)


def test_ensembles_are_matched_by_smiles_then_name_then_connectivity():
    generated = [_raw("OCC", "other name"), _raw("C[C@H](N)O", "same name"), _raw("CCCC", "unused")]
    matcher = Matcher(generated)
    assert len(matcher.task(_raw("CCO", "a")).samples) == 1
    assert len(matcher.task(_raw("C[C@@H](N)O", "same name")).samples) == 1
    assert len(matcher.task(_raw("C[C@@H](N)O", "b")).samples) == 1
    assert matcher.task(_raw("CCN", "a")).samples == []
    assert matcher.n_unused == 1


def test_provenance_is_listed_once_for_each_kind():
    raws = [_raw("CCO", "a", model="x:1", seed="0"), _raw("CCN", "b", model="x:1", seed="0"), _raw("CCC", "c")]
    assert provenance_of(raws) == ["x:1 0"]


def test_missing_references_are_named(tmp_path):
    (tmp_path / "a.smi").write_text("CCO a\n")
    with pytest.raises(InputError):
        read_both(tmp_path / "a.smi", None)
