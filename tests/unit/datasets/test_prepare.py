"""Tests of ``conformergen.datasets.prepare``."""

import numpy as np
import pytest

from conformergen.chem import embed, mol_with_conformers, molecule_from_smiles
from conformergen.datasets.prepare import prepare
from conformergen.errors import MoleculeError
from conformergen.io.formats import RawEnsemble


def _raw(smiles, positions, molecule, **values):
    mols = [mol_with_conformers(molecule, p[None]) for p in positions]
    return RawEnsemble(smiles=smiles, name="x", position=0, conformers=mols, **values)


def test_conformers_are_ordered_by_energy_cut_and_counted():
    molecule = molecule_from_smiles("C[C@H](N)C(=O)O")
    positions = embed(molecule, 3, seed=0)
    raw = _raw(molecule.smiles, [*positions, -positions[0]], molecule, energies=[3.0, 1.0, 2.0, 0.0])
    prepared = prepare(raw, max_confs=2)
    assert prepared.dropped == {"stereo": 1, "over max-confs": 1}
    assert prepared.conformers.source_idx.tolist() == [1, 2]
    np.testing.assert_allclose(prepared.conformers.energies, [0.0, 1.0])


def test_ensemble_of_another_molecule_has_a_reason():
    molecule = molecule_from_smiles("CCO")
    with pytest.raises(MoleculeError) as error:
        prepare(_raw("COC", embed(molecule, 1, seed=0), molecule), max_confs=None)
    assert error.value.reason == "reacted"
