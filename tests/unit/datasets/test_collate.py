"""Tests of ``conformergen.datasets.collate``."""

import numpy as np
import torch

from conformergen.chem import embed, molecule_from_smiles
from conformergen.datasets.collate import collate_graphs, molecule_tables, pad_positions


def test_graphs_are_padded_and_keep_their_content():
    molecules = [molecule_from_smiles(s) for s in ("CCO", "C[C@H](N)C(=O)O")]
    batch = collate_graphs([molecule_tables(m) for m in molecules])
    assert batch.n_atoms.tolist() == [m.graph.n_atoms for m in molecules]
    for row, molecule in enumerate(molecules):
        n = molecule.graph.n_atoms
        np.testing.assert_array_equal(batch.atomic_numbers[row, :n], molecule.graph.atomic_numbers)
        assert torch.equal(batch.hops[row, :n, :n], batch.hops[row, :n, :n].T)
        i, j = molecule.graph.bonds.T
        assert (batch.hops[row, i, j] == 1).all()
    assert int(batch.handedness.abs().sum()) == 1
    positions = [embed(m, 1, seed=0)[0] for m in molecules]
    padded = pad_positions(positions, batch.mask.shape[1])
    assert (padded[~batch.mask] == 0).all()
    np.testing.assert_array_equal(padded[0, :9], positions[0])
