"""Tests of ``conformergen.torsion.restraints``."""

import numpy as np

from conformergen.chem import (
    embed,
    get_torsions,
    minimise_mmff,
    mmff_energies,
    mol_with_conformers,
    molecule_from_smiles,
    rotatable_torsions,
    set_torsions,
    to_mol,
)
from conformergen.torsion import (
    FREE,
    RestrainedTorsions,
    TorsionRestraint,
    minimise_restrained,
)


def _energies(molecule, positions):
    mol = mol_with_conformers(molecule, positions)
    return minimise_mmff(mol, max_steps=1)[1]


def test_torsions_are_restrained_and_the_rest_is_minimised():
    molecule = molecule_from_smiles("COc1ccccc1C(=O)NCCO")
    mol = to_mol(molecule)
    quartets = rotatable_torsions(mol)
    wanted = np.full((6, len(quartets)), 75.0) + 10.0 * np.arange(6)[:, None]
    seeds = embed(molecule, 1, seed=0).astype(np.float64)
    starts = np.array([set_torsions(mol, seeds[0], quartets, d) for d in wanted])

    def minimised(constant):
        restraint = TorsionRestraint(force_constant=constant, half_width=15.0) if constant else FREE
        torsions = RestrainedTorsions(quartets=quartets, degrees=wanted, restraint=restraint)
        found = minimise_restrained(molecule, starts, torsions, max_steps=500)
        minima, energies = found.positions, found.energies
        np.testing.assert_allclose(mmff_energies(mol_with_conformers(molecule, minima)), energies, atol=1e-6)
        degrees = np.array([get_torsions(mol, p, quartets) for p in minima])
        return energies, np.abs((degrees - wanted + 180.0) % 360.0 - 180.0)

    free, moved = minimised(0.0)
    weak, less = minimised(0.0005)
    firm, least = minimised(1.0)
    assert least.max() < 17.0 < moved.max()
    assert less.mean() < moved.mean()
    assert free.mean() <= weak.mean() <= firm.mean()
    assert np.all(firm < _energies(molecule, starts))
