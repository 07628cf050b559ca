"""Tests of ``conformergen.datasets.pairing.interface``."""

import numpy as np
import torch

from conformergen.chem import embed, mol_with_conformers, molecule_from_smiles
from conformergen.datasets.pairing import PAIRINGS
from conformergen.datasets.pairing.interface import superposed
from conformergen.geometry.rotations import haar_rotations
from conformergen.records import ConformerSet


def test_structures_are_superposed_on_their_references():
    molecule = molecule_from_smiles("CCCCO")
    positions = embed(molecule, 3, seed=0)
    rotation = haar_rotations(torch.randn(1, 4))[0].numpy()
    mol = mol_with_conformers(molecule, positions @ rotation.T + 5.0)
    conformers = ConformerSet(molecule=molecule, positions=positions)
    np.testing.assert_allclose(superposed(conformers, mol), positions, atol=1e-4)


def test_every_pairing_is_in_the_table():
    assert set(PAIRINGS) == {"assigned", "minimised", "perturbed"}
