"""Tests of ``conformergen.sampling.energies``."""

import pytest
import torch
from support import TINY_NETWORK

from conformergen.nn.energy import EnergyNetwork
from conformergen.sampling.energies import predict_energies


@pytest.mark.parametrize("pair_budget", [1, 100_000])
def test_energies_do_not_depend_on_the_batch(ranked_sets, pair_budget):
    torch.manual_seed(0)
    network = EnergyNetwork(TINY_NETWORK).eval()
    ranked = ranked_sets[0]
    molecule, positions = ranked.conformers.molecule, ranked.conformers.positions
    together = predict_energies(network, molecule, positions, ranked.baseline, pair_budget=pair_budget)
    assert together.shape == (len(positions),)
    for i in range(1, 4):
        pair = predict_energies(network, molecule, positions[[0, i]], ranked.baseline[[0, i]])
        assert pair[1] - pair[0] == pytest.approx(together[i] - together[0], abs=1e-3)
