"""Tests of ``conformergen.datasets.pairing.minimised``."""

import numpy as np

from conformergen.chem import (
    embed,
    minimise_mmff,
    mol_with_conformers,
    molecule_from_smiles,
)
from conformergen.datasets.pairing import PairingSettings, with_starts
from conformergen.records import ConformerSet


def _energies(molecule, positions):
    mol = mol_with_conformers(molecule, positions)
    return minimise_mmff(mol, max_steps=1)[1]


def test_minimised_starts_are_the_minima_of_their_references():
    molecule = molecule_from_smiles("CCCOC")
    rng = np.random.default_rng(0)
    references = embed(molecule, 4, seed=0) + rng.normal(0.0, 0.03, (4, molecule.graph.n_atoms, 3)).astype(np.float32)
    paired = with_starts(
        ConformerSet(molecule=molecule, positions=references), PairingSettings(pairing="minimised"), seed=0
    )
    assert np.all(_energies(molecule, paired.starts) < _energies(molecule, references) - 0.3)
    assert np.sqrt(((paired.starts - references) ** 2).sum(-1).mean(-1)).max() < 0.5


def test_minimised_starts_without_parameters_are_assigned():
    molecule = molecule_from_smiles("OB(O)c1ccccc1")
    references = embed(molecule, 2, seed=0)
    paired = with_starts(
        ConformerSet(molecule=molecule, positions=references), PairingSettings(pairing="minimised"), seed=0
    )
    assert np.isfinite(paired.starts).all()
