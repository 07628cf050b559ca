"""Tests of ``conformergen.nn.tensor_product``."""

import torch

from conformergen.datasets.collate import collate_graphs, molecule_tables, pad_positions
from conformergen.nn import NetworkSettings, RelaxationSettings, make_backbone


def test_a_translation_does_not_matter(ensembles):
    torch.manual_seed(0)
    relaxation = RelaxationSettings(mode="none")
    settings = NetworkSettings(backbone="tensor-product", channels=16, odd_channels=8, layers=1, relaxation=relaxation)
    network = make_backbone(settings).eval()
    graph = collate_graphs([molecule_tables(ensembles[0].molecule)])
    x = pad_positions([ensembles[0].positions[0]], graph.mask.shape[1])
    y = network(graph, x, torch.zeros(1))
    assert y.shape == x.shape
    assert torch.isfinite(y).all()
    moved = network(graph, x + 7.0, torch.zeros(1))
    torch.testing.assert_close(moved, y, atol=1e-4, rtol=1e-4)
