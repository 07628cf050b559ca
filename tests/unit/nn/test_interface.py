"""Tests of ``conformergen.nn.interface``."""

from dataclasses import replace

import pytest
import torch
from e3nn import o3

from conformergen.datasets.collate import collate_graphs, molecule_tables, pad_positions
from conformergen.nn import BACKBONES, NetworkSettings, RelaxationSettings, make_backbone
from conformergen.records.batch import GraphBatch

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}


#: Backbones, and the one that turns bonds too.
KINDS = [*BACKBONES, "torsions"]


def _setup(ensembles, backbone, dtype, mode="none"):
    torch.manual_seed(0)
    settings = NetworkSettings(
        backbone="headwise" if backbone == "torsions" else backbone,
        torsions=backbone == "torsions",
        channels=16,
        odd_channels=8,
        layers=2,
        n_radial=8,
        relaxation=RelaxationSettings(mode=mode, rank=4),
    )
    # e3nn rounds its Wigner coefficients to the default dtype when a product is built.
    torch.set_default_dtype(dtype)
    try:
        network = make_backbone(settings).eval()
    finally:
        torch.set_default_dtype(torch.float32)
    if backbone == "torsions":
        torch.nn.init.normal_(network.torsions.weights[-1].weight)
    graph = collate_graphs([molecule_tables(s.molecule) for s in ensembles])
    graph = replace(graph, handedness=graph.handedness.to(dtype))
    positions = pad_positions([s.positions[0] for s in ensembles], graph.mask.shape[1]).to(dtype)
    return network, graph, positions


def _relative(a, b):
    return float((a - b).detach().abs().max() / b.detach().abs().max())


def _permuted(graph: GraphBatch, order: torch.Tensor) -> GraphBatch:
    inverse = torch.argsort(order)
    return GraphBatch(
        atomic_numbers=graph.atomic_numbers[:, order],
        atom_features=graph.atom_features[:, order],
        mask=graph.mask[:, order],
        bond_types=graph.bond_types[:, order][:, :, order],
        hops=graph.hops[:, order][:, :, order],
        relations=graph.relations[:, order][:, :, order],
        handedness=graph.handedness[:, order],
        centre_neighbours=inverse[graph.centre_neighbours[:, order]],
        rotatable_bonds=inverse[graph.rotatable_bonds],
        moving_atoms=graph.moving_atoms[:, :, order],
    )


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("backbone", KINDS)
def test_exact_network_is_equivariant(ensembles, backbone, dtype):
    network, graph, x = _setup(ensembles, backbone, dtype)
    noise = torch.full((len(x),), 0.3, dtype=dtype)
    mask = graph.mask[..., None].to(dtype)
    y = network(graph, x, noise)
    rotation = o3.rand_matrix(dtype=torch.float64).to(dtype)
    assert _relative(network(graph, x @ rotation.T, noise), y @ rotation.T) < TOLERANCE[dtype]
    mirrored = replace(graph, handedness=-graph.handedness)
    assert _relative(network(mirrored, -x, noise), -y) < TOLERANCE[dtype]
    assert _relative(network(graph, (x + 2.0) * mask, noise), y) < TOLERANCE[dtype]
    order = torch.randperm(x.shape[1])
    assert _relative(network(_permuted(graph, order), x[:, order], noise), y[:, order]) < TOLERANCE[dtype]
    assert float((y * (1 - mask)).detach().abs().max()) == 0.0


@pytest.mark.parametrize("backbone", KINDS)
def test_network_tells_enantiomers_apart(ensembles, backbone):
    network, graph, x = _setup(ensembles, backbone, torch.float64)
    noise = torch.zeros(len(x), dtype=torch.float64)
    wrong = network(replace(graph, handedness=-graph.handedness), x, noise)
    assert _relative(wrong, network(graph, x, noise)) > 1e-4


@pytest.mark.parametrize("backbone", KINDS)
def test_padding_does_not_matter(ensembles, backbone):
    network, graph, x = _setup(ensembles, backbone, torch.float64)
    alone = collate_graphs([molecule_tables(ensembles[0].molecule)])
    alone = replace(alone, handedness=alone.handedness.double())
    n = alone.mask.shape[1]
    one = network(alone, x[:1, :n], torch.zeros(1, dtype=torch.float64))
    together = network(graph, x, torch.zeros(len(x), dtype=torch.float64))
    assert _relative(together[:1, :n], one) < 1e-10
