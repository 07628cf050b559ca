"""Tests of ``conformergen.datasets.pairing.assigned``."""

import numpy as np

from conformergen.chem import (
    embed,
    molecule_from_smiles,
)
from conformergen.datasets.pairing import PairingSettings, with_starts
from conformergen.records import ConformerSet


def test_pairing_finds_relabelled_copies_of_the_references():
    molecule = molecule_from_smiles("CC(C)CCO")
    seeds = embed(molecule, 5, seed=11)
    conformers = ConformerSet(molecule=molecule, positions=seeds[::-1].copy())
    paired = with_starts(conformers, PairingSettings(min_starts=5), seed=11)
    np.testing.assert_allclose(paired.starts, conformers.positions, atol=1e-3)
