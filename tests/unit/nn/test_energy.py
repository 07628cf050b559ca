"""Tests of ``conformergen.nn.energy``."""

import torch
from support import TINY_NETWORK

from conformergen.chem import embed, molecule_from_smiles
from conformergen.datasets.collate import GraphTables, collate_graphs
from conformergen.geometry.rotations import haar_rotations
from conformergen.nn.energy import EnergyNetwork


def test_energy_is_invariant_and_knows_handedness():
    molecule = molecule_from_smiles("C[C@H](N)[C@@H](O)C=O")
    graph = collate_graphs([GraphTables(molecule.graph)] * 2)
    x = torch.from_numpy(embed(molecule, 2, seed=0))
    torch.manual_seed(0)
    network = EnergyNetwork(TINY_NETWORK).eval()
    baseline = torch.zeros(2)
    plain = network(graph, x, baseline)
    rotation = haar_rotations(torch.randn(1, 4))[0]
    torch.testing.assert_close(network(graph, x @ rotation.T + 3.0, baseline), plain, atol=2e-4, rtol=1e-4)
    mirrored = molecule_from_smiles("C[C@@H](N)[C@H](O)C=O")
    other = collate_graphs([GraphTables(mirrored.graph)] * 2)
    if (mirrored.graph.bonds == molecule.graph.bonds).all():
        torch.testing.assert_close(network(other, -x, baseline), plain, atol=2e-4, rtol=1e-4)
    assert (network(graph, -x, baseline) - plain).abs().max() > 1e-4
    shifted = network(graph, x, baseline + 2.0)
    torch.testing.assert_close(shifted - plain, 2.0 * network.share.expand(2), atol=1e-4, rtol=1e-4)
