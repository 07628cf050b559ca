"""Tests of ``conformergen.torsion.features``."""

import numpy as np

from conformergen.chem import (
    embed,
    molecule_from_smiles,
    rotatable_torsions,
    to_mol,
)
from conformergen.torsion.features import torsion_features


def _described(smiles, *, n=1):
    """A molecule's graph, its rotatable torsions and what the network reads of some embeddings."""
    molecule = molecule_from_smiles(smiles)
    quartets = rotatable_torsions(to_mol(molecule))
    positions = embed(molecule, n, seed=0).astype(np.float64)
    return molecule.graph, quartets, torsion_features(molecule.graph, quartets, positions), positions


def test_mirror_images_have_the_other_handedness():
    graph, quartets, described, positions = _described("C[C@H](O)[C@@H](N)CCO", n=2)
    mirrored = torsion_features(graph, quartets, -positions)
    np.testing.assert_array_equal(mirrored.sides, 2 - described.sides)
    assert (described.sides != 1).any()
    assert (mirrored.relations != described.relations).any()
