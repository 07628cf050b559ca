"""Tests of ``conformergen.sampling.energies``."""

import numpy as np
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
    alone = [predict_energies(network, molecule, positions[[i]], ranked.baseline[[i]])[0] for i in range(3)]
    together = predict_energies(network, molecule, positions, ranked.baseline, pair_budget=pair_budget)
    assert together.shape == (len(positions),)
    differences = np.array(alone) - together[:3]
    np.testing.assert_allclose(differences - differences[0], 0.0, atol=1e-3)
