"""Tests of ``conformergen.chem.forcefield``."""

import numpy as np

from conformergen.chem import embed, mmff_energies, mol_with_conformers, molecule_from_smiles


def test_mmff_energies_are_those_of_the_geometry():
    molecule = molecule_from_smiles("CCO")
    mol = mol_with_conformers(molecule, embed(molecule, 2, seed=0))
    assert np.ptp(mmff_energies(mol)) < 1e-3
    mol.RemoveAllConformers()
    assert mmff_energies(mol).shape == (0,)
    boron = molecule_from_smiles("OBO")
    assert np.isnan(mmff_energies(mol_with_conformers(boron, embed(boron, 1, seed=0)))).all()
