"""Tests of ``conformergen.training.torsion_data``."""

import numpy as np
import torch

from conformergen.chem import (
    embed,
    molecule_from_smiles,
)
from conformergen.torsion.features import torsion_features
from conformergen.training.torsion_data import load_torsion_sets, torsion_set, write_torsion_sets
from conformergen.training.torsion_model import (
    PaddedTorsions,
)

LEARNED = ("C[C@H](O)[C@@H](N)CCO", "CC(C)COC(=O)c1ccccc1CO")


def _learned(smiles, n=3):
    """What the training reads of embeddings, and their mirror images' codes."""
    molecule = molecule_from_smiles(smiles)
    positions = embed(molecule, n, seed=0)
    found = torsion_set(molecule, positions, np.arange(float(n)))
    return found, torsion_features(molecule.graph, found.features.quartets[0], -positions.astype(np.float64))


def test_training_data_survive_their_file_and_are_mirrored(tmp_path):
    torch.manual_seed(0)
    made = [_learned(smiles) for smiles in LEARNED]
    write_torsion_sets(tmp_path / "000000.npz", [found for found, _ in made])
    read = list(load_torsion_sets(tmp_path))
    assert [t.smiles for t in read] == [found.smiles for found, _ in made]
    data = PaddedTorsions(read)
    for i, (found, mirrored) in enumerate(made):
        np.testing.assert_allclose(read[i].radians, found.radians, atol=2e-3)
        ids = torch.tensor([i])
        seen = set()
        for _ in range(20):
            batch = data.batch(ids, 4)
            assert batch.atoms.all()
            assert batch.torsions.all()
            for row in range(4):
                near = [np.abs(sign * read[i].radians - batch.radians[row].numpy()).max(1) for sign in (1, -1)]
                sign, conformer = np.unravel_index(np.argmin(near), (2, 3))
                codes = (found.features, mirrored)[sign]
                seen.add((sign, conformer))
                np.testing.assert_array_equal(batch.features.sides[row], codes.sides[conformer])
                np.testing.assert_array_equal(batch.features.relations[row], codes.relations[conformer])
        assert len(seen) >= 4
