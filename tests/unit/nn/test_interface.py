"""Tests of ``conformergen.nn.interface``."""

from dataclasses import replace

import pytest
import torch
from e3nn import o3
from support import KINDS, network_and_batch, relative_error

from conformergen.datasets.collate import collate_graphs, molecule_tables
from conformergen.records.batch import GraphBatch

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}


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
    network, graph, x = network_and_batch(ensembles, backbone, dtype)
    noise = torch.full((len(x),), 0.3, dtype=dtype)
    mask = graph.mask[..., None].to(dtype)
    y = network(graph, x, noise)
    rotation = o3.rand_matrix(dtype=torch.float64).to(dtype)
    assert relative_error(network(graph, x @ rotation.T, noise), y @ rotation.T) < TOLERANCE[dtype]
    mirrored = replace(graph, handedness=-graph.handedness)
    assert relative_error(network(mirrored, -x, noise), -y) < TOLERANCE[dtype]
    assert relative_error(network(graph, (x + 2.0) * mask, noise), y) < TOLERANCE[dtype]
    order = torch.randperm(x.shape[1])
    assert relative_error(network(_permuted(graph, order), x[:, order], noise), y[:, order]) < TOLERANCE[dtype]
    assert float((y * (1 - mask)).detach().abs().max()) == 0.0


@pytest.mark.parametrize("backbone", KINDS)
def test_network_tells_enantiomers_apart(ensembles, backbone):
    network, graph, x = network_and_batch(ensembles, backbone, torch.float64)
    noise = torch.zeros(len(x), dtype=torch.float64)
    wrong = network(replace(graph, handedness=-graph.handedness), x, noise)
    assert relative_error(wrong, network(graph, x, noise)) > 1e-4


@pytest.mark.parametrize("backbone", KINDS)
def test_padding_does_not_matter(ensembles, backbone):
    network, graph, x = network_and_batch(ensembles, backbone, torch.float64)
    alone = collate_graphs([molecule_tables(ensembles[0].molecule)])
    alone = replace(alone, handedness=alone.handedness.double())
    n = alone.mask.shape[1]
    one = network(alone, x[:1, :n], torch.zeros(1, dtype=torch.float64))
    together = network(graph, x, torch.zeros(len(x), dtype=torch.float64))
    assert relative_error(together[:1, :n], one) < 1e-10
