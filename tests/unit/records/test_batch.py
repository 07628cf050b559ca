"""Tests of ``conformergen.records.batch``."""

import torch

from conformergen.chem import molecule_from_smiles
from conformergen.datasets.collate import collate_graphs, molecule_tables


def test_batch_moves_to_a_device_and_counts_its_atoms():
    batch = collate_graphs([molecule_tables(molecule_from_smiles(s)) for s in ("C", "CCO")])
    assert batch.n_atoms.tolist() == [5, 9]
    moved = batch.to("meta")
    assert moved.mask.device == torch.device("meta")
    assert batch.mask.device == torch.device("cpu")
