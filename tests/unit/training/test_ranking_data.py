"""Tests of ``conformergen.training.ranking_data``."""

import numpy as np
import torch
from support import TINY_NETWORK

from conformergen.datasets.ranked import RankedSet
from conformergen.nn.energy import EnergyNetwork
from conformergen.training.ranking_data import RankingData


def test_a_constant_of_the_molecule_changes_nothing(ranked_sets):
    network = EnergyNetwork(TINY_NETWORK)
    chosen = [(0, np.arange(4)), (1, np.arange(3))]
    before = RankingData(ranked_sets).loss(network, chosen, torch.device("cpu"))
    moved = [RankedSet(conformers=s.conformers, baseline=s.baseline + 100.0) for s in ranked_sets]
    after = RankingData(moved).loss(network, chosen, torch.device("cpu"))
    torch.testing.assert_close(after, before)
