"""Tests of ``conformergen.training.ranker``."""

import numpy as np
import torch
from support import TINY_NETWORK

from conformergen.nn.energy import EnergyNetwork
from conformergen.sampling.energies import predict_energies
from conformergen.training.ranker import RankerTrainer, RankingSettings, train_ranker
from conformergen.training.ranking_data import RankingData


def predict(network, ranked, **options):
    conformers = ranked.conformers
    return predict_energies(network, conformers.molecule, conformers.positions, ranked.baseline, **options)


def test_ranker_learns_differences(ranked_sets):
    torch.manual_seed(0)
    data, seen = RankingData(ranked_sets), []
    settings = RankingSettings(steps=60, learning_rate=5e-3, warmup=5, ema=0.8, report_every=20)
    trainer = RankerTrainer(EnergyNetwork(TINY_NETWORK), data, settings)
    train_ranker(trainer, report=lambda loss: seen.append((trainer.step, loss)))
    assert [step for step, _ in seen] == [20, 40, 60]
    assert seen[-1][1] < 0.6 * seen[0][1]
    network = trainer.averaged
    guess = predict(network, ranked_sets[1])
    wanted = ranked_sets[1].conformers.energies
    assert np.corrcoef(guess, wanted)[0, 1] > np.corrcoef(ranked_sets[1].baseline, wanted)[0, 1]
    small = predict(network, ranked_sets[1], pair_budget=1)
    np.testing.assert_allclose(small, guess, atol=1e-3)
