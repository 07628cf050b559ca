"""Tests of ``conformergen.nn.features``."""

import pytest
import torch

from conformergen.datasets.collate import collate_graphs, molecule_tables, pad_positions
from conformergen.nn.features import N_PAIR_CODES, pair_codes, radial_basis, signed_volumes


def test_radial_basis_is_smooth_and_bounded():
    distances = torch.linspace(0.0, 20.0, 400)
    basis = radial_basis(distances, 12)
    assert basis.shape == (400, 12)
    assert basis.abs().max() <= 1.01
    assert (basis[1:] - basis[:-1]).abs().max() < 0.2


def test_signed_volumes_change_sign_under_reflection(ensembles):
    graph = collate_graphs([molecule_tables(s.molecule) for s in ensembles])
    x = pad_positions([s.positions[0] for s in ensembles], graph.mask.shape[1])
    volumes = signed_volumes(graph, x)
    assert volumes.abs().max() > 0.1
    torch.testing.assert_close(signed_volumes(graph, -x), -volumes)


def test_pairs_are_coded_by_bond_and_distance(ensembles):
    graph = collate_graphs([molecule_tables(ensembles[0].molecule)])
    codes = pair_codes(graph, torch.float32)
    assert codes.shape[-1] == N_PAIR_CODES
    assert codes.sum(-1)[0, 0, 1] == pytest.approx(3.0)
