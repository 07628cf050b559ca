"""Tests of ``conformergen.diffusion.losses``."""

import pytest
import torch

from conformergen.chem import molecule_from_smiles
from conformergen.datasets.collate import collate_graphs, molecule_tables
from conformergen.diffusion import LOSSES
from conformergen.geometry.rotations import centre


@pytest.fixture
def graph():
    return collate_graphs([molecule_tables(molecule_from_smiles(s)) for s in ("CCO", "c1ccccc1")])


@pytest.mark.parametrize("name", LOSSES)
def test_losses_vanish_at_the_data_only(name, graph):
    data = centre(torch.randn(*graph.mask.shape, 3), graph)
    weight = torch.tensor([1.0, 3.0])
    assert LOSSES[name](data, data, graph, weight).abs().max() < 1e-6
    assert (LOSSES[name](data + 0.3 * graph.mask[..., None], data, graph, weight) > 0).all()
