"""Tests of ``conformergen.torsion.constraints``."""

import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem import rdMolTransforms

from conformergen.chem import mol_with_conformers, molecule_from_smiles
from conformergen.errors import InputError, MoleculeError
from conformergen.torsion.constraints import Constraints, constrained_conformers


def test_torsions_stay_at_their_angle():
    constraints = Constraints(torsions=(("[CH3:1][CH2:2][CH2:3][O:4]", 60.0),))
    molecule = molecule_from_smiles("CCCOCCCC")
    minima = constrained_conformers(molecule, 5, seed=0, constraints=constraints)
    mol = mol_with_conformers(molecule, minima.positions.astype(np.float32))
    assert mol.GetNumConformers() > 1
    quartet = mol.GetSubstructMatch(Chem.MolFromSmarts("[CH3][CH2][CH2]O"))
    for conformer in mol.GetConformers():
        assert rdMolTransforms.GetDihedralDeg(conformer, *quartet) == pytest.approx(60.0, abs=2.0)
    assert np.all(np.diff(minima.energies) >= 0)
    with pytest.raises(MoleculeError) as error:
        constrained_conformers(molecule_from_smiles("CCO"), 1, seed=0, constraints=constraints)
    assert error.value.reason == "domain"
    with pytest.raises(InputError, match=":1"):
        Constraints(torsions=(("CCCC", 60.0),))
    with pytest.raises(InputError, match="3D"):
        Constraints(core=Chem.MolToMolBlock(Chem.MolFromSmiles("CCO")))
