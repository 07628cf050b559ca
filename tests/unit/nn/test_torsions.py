"""Tests of ``conformergen.nn.torsions``."""

import numpy as np
import pytest
import torch

from conformergen.chem import embed, get_torsions, molecule_from_smiles, to_mol
from conformergen.datasets.collate import collate_graphs, molecule_tables, pad_positions
from conformergen.errors import InputError
from conformergen.nn import NetworkSettings
from conformergen.nn.torsions import turn_bonds, without_rotation


def _batch(*smiles):
    molecules = [molecule_from_smiles(s) for s in smiles]
    graph = collate_graphs([molecule_tables(m) for m in molecules])
    positions = [embed(m, 1, seed=0)[0] for m in molecules]
    return molecules, graph, pad_positions(positions, graph.mask.shape[1]).double()


def _quartets(molecule, rotors):
    neighbours = {i: [] for i in range(molecule.graph.n_atoms)}
    for a, b in molecule.graph.bonds.tolist():
        neighbours[a].append(b)
        neighbours[b].append(a)
    ends = [
        (next(i for i in neighbours[j] if i != k), j, k, next(i for i in neighbours[k] if i != j)) for j, k in rotors
    ]
    return np.array(ends, dtype=np.int64)


def test_each_bond_turns_by_its_angle_and_nothing_else_moves():
    molecules, graph, x = _batch("CCOC(=O)C(N)CO", "CCC")
    torch.manual_seed(0)
    angles = torch.randn(graph.rotatable_bonds.shape[:2], dtype=torch.float64)
    y = turn_bonds(graph, x, angles)
    for index, molecule in enumerate(molecules):
        mol, n = to_mol(molecule), molecule.graph.n_atoms
        rotors = molecule_tables(molecule).rotatable_bonds
        quartets = _quartets(molecule, rotors.tolist())
        before, after = (get_torsions(mol, p[index, :n].numpy(), quartets) for p in (x, y))
        wanted = np.degrees(angles[index, : len(rotors)].numpy())
        np.testing.assert_allclose((after - before - wanted + 180.0) % 360.0 - 180.0, 0.0, atol=1e-6)
        near = (graph.hops[index] <= 2) & graph.mask[index][:, None] & graph.mask[index]
        torch.testing.assert_close(torch.cdist(x, x)[index][near], torch.cdist(y, y)[index][near])
    torch.testing.assert_close(turn_bonds(graph, x, torch.zeros_like(angles)), x)


def test_rigid_motion_is_taken_out():
    _, graph, x = _batch("CCO", "CCC(=O)N")
    mask = graph.mask[..., None].double()
    spin = torch.tensor([0.01, -0.02, 0.03], dtype=torch.float64)
    rigid = (torch.linalg.cross(spin.expand_as(x), x) + 0.5) * mask
    assert without_rotation(graph, x, rigid).abs().max() < 1e-3 * rigid.abs().max()
    torch.manual_seed(0)
    own = torch.randn(x.shape, dtype=torch.float64) * mask
    rest = without_rotation(graph, x, own)
    arms = (x - (x * mask).sum(1, keepdim=True) / mask.sum(1, keepdim=True)) * mask
    assert rest.sum(1).abs().max() < 1e-6
    momenta = [torch.linalg.cross(arms, d).sum(1).abs().max() for d in (rest, own)]
    assert momenta[0] < 1e-3 * momenta[1]
    assert (rest * (1 - mask)).abs().max() == 0.0


def test_only_the_headwise_backbone_turns_bonds():
    with pytest.raises(InputError, match="torsions"):
        NetworkSettings(backbone="tensor-product", torsions=True)
