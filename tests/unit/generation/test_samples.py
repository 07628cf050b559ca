"""Tests of ``conformergen.generation.samples``."""

import numpy as np

from conformergen.chem import (
    embed,
    get_torsions,
    mmff_energies,
    mol_with_conformers,
    molecule_from_smiles,
    rotatable_torsions,
    to_mol,
)
from conformergen.generation.samples import Samples, minimise_samples


def _minimised(molecule, positions):
    positions = positions.astype(np.float32)
    energies = mmff_energies(mol_with_conformers(molecule, positions))
    n = len(positions)
    starts = Samples(
        molecule=molecule, positions=positions, mmff_energies=energies, fallback=np.zeros(n, np.uint8), n_final=n
    )
    return minimise_samples(starts)


def test_minimised_samples_keep_their_torsions_and_the_rest_is_mended():
    molecule = molecule_from_smiles("COc1ccccc1C(=O)NCCO")
    mol = to_mol(molecule)
    quartets = rotatable_torsions(mol)
    seeds = embed(molecule, 4, seed=0)
    bent = seeds + np.random.default_rng(0).normal(0.0, 0.03, seeds.shape)
    minima = _minimised(molecule, bent)
    before, after = (
        np.array([get_torsions(mol, p.astype(np.float64), quartets) for p in x]) for x in (bent, minima.positions)
    )
    assert np.abs((after - before + 180.0) % 360.0 - 180.0).max() < 25.0
    assert np.all(minima.mmff_energies < mmff_energies(mol_with_conformers(molecule, bent)) - 10.0)
    rigid = molecule_from_smiles("c1ccccc1")
    assert _minimised(rigid, embed(rigid, 2, seed=0)).positions.shape == (2, 12, 3)
