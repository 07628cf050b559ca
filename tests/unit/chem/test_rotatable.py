"""Tests of ``conformergen.chem.rotatable``."""

import numpy as np

from conformergen.chem import (
    embed,
    get_torsions,
    molecule_from_smiles,
    rotatable_torsions,
    set_torsions,
    to_mol,
)


def test_methyls_and_double_bonds_are_not_turned():
    mol = to_mol(molecule_from_smiles("CC/C=C/C#CCO"))
    assert {tuple(sorted(q[1:3])) for q in rotatable_torsions(mol).tolist()} == {(1, 2), (6, 7)}
    assert len(rotatable_torsions(to_mol(molecule_from_smiles("CC")))) == 0


def test_torsions_are_set_and_read_back():
    molecule = molecule_from_smiles("CCOCCN")
    mol = to_mol(molecule)
    start = embed(molecule, 1, seed=0)[0].astype(np.float64)
    quartets = rotatable_torsions(mol)
    wanted = np.linspace(-150.0, 150.0, len(quartets))
    wanted[1] = np.nan
    turned = set_torsions(mol, start, quartets, wanted)
    before, after = get_torsions(mol, start, quartets), get_torsions(mol, turned, quartets)
    np.testing.assert_allclose(after, np.where(np.isnan(wanted), before, wanted), atol=1e-6)
    bonds = molecule.graph.bonds
    length = [np.linalg.norm(p[bonds[:, 0]] - p[bonds[:, 1]], axis=1) for p in (start, turned)]
    np.testing.assert_allclose(length[0], length[1], atol=1e-9)
