"""Tests of ``conformergen.nn.headwise``."""

import torch

from conformergen.datasets.collate import collate_graphs, molecule_tables, pad_positions
from conformergen.nn import NetworkSettings, RelaxationSettings, make_backbone


def _batch(ensembles):
    graph = collate_graphs([molecule_tables(s.molecule) for s in ensembles])
    return graph, pad_positions([s.positions[0] for s in ensembles], graph.mask.shape[1])


def test_network_reads_noise_level_and_stereo(ensembles):
    torch.manual_seed(0)
    network = make_backbone(NetworkSettings(channels=16, layers=2, relaxation=RelaxationSettings(mode="none"))).eval()
    graph, x = _batch(ensembles)
    low, high = (network(graph, x, torch.full((len(x),), value)) for value in (0.0, 1.0))
    assert (low - high).abs().max() > 1e-6
    assert (low[~graph.mask] == 0).all()


def test_each_layer_has_a_relaxed_branch(ensembles):
    settings = NetworkSettings(channels=16, layers=3, relaxation=RelaxationSettings(mode="recm", rank=2))
    network = make_backbone(settings)
    assert len(network.branches()) >= 3
