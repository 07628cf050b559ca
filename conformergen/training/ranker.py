"""Fitting the ranker: differences of energy between conformers of one molecule."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from conformergen.datasets.ranked import RankedSet
from conformergen.errors import InputError
from conformergen.nn.energy import EnergyNetwork
from conformergen.sampling.energies import predict_energies
from conformergen.training.ranking_data import RankingData
from conformergen.training.trainer import cosine_rate, ema


@dataclass(frozen=True, kw_only=True)
class RankingSettings:
    """How the ranker is fitted.

    Attributes:
        steps: Number of optimiser steps.
        learning_rate: Peak learning rate; a linear warm-up precedes it, and a cosine to 0 follows.
        warmup: Steps of warm-up, but at most a fifth of all.
        weight_decay: AdamW decay.
        molecules: Molecules in one step.
        conformers: Largest number of conformers of each molecule in one step.
        ema: Decay of the averaged weights.
        report_every: Steps between reports.
        seed: Seed of weights and batches.
    """

    steps: int = 4000
    learning_rate: float = 1e-3
    warmup: int = 200
    weight_decay: float = 0.01
    molecules: int = 4
    conformers: int = 10
    ema: float = 0.998
    report_every: int = 250
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.steps, self.molecules, self.learning_rate, self.report_every) <= 0 or self.conformers < 2:
            raise InputError(
                "ranking: steps, molecules, learning_rate and report_every above 0, at least 2 conformers are required"
            )


class RankerTrainer:
    """Ranker, averaged ranker, optimiser and step. Batches depend on (seed, epoch) and (seed, step)."""

    def __init__(
        self,
        network: EnergyNetwork,
        data: RankingData,
        settings: RankingSettings,
        *,
        device: torch.device | str = "cpu",
    ) -> None:
        self.device = torch.device(device)
        self.network = network.to(self.device).train()
        self.data, self.settings = data, settings
        self.average = AveragedModel(self.network, avg_fn=ema(settings.ema))
        self.optimizer = torch.optim.AdamW(
            network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, foreach=True
        )
        self.step = 0

    def _choose(self) -> list[tuple[int, np.ndarray]]:
        """Molecules of this step, in an order of their own in each epoch, and some conformers of each."""
        s, sets = self.settings, self.data.sets
        rng = np.random.default_rng((s.seed, 1, self.step))
        places = range(self.step * s.molecules, (self.step + 1) * s.molecules)
        orders = {
            e: np.random.default_rng((s.seed, 0, e)).permutation(len(sets)) for e in {p // len(sets) for p in places}
        }
        picked = [int(orders[p // len(sets)][p % len(sets)]) for p in places]
        return [(i, rng.permutation(len(sets[i].conformers))[: s.conformers]) for i in picked]

    def train_step(self) -> float:
        """Take one optimiser step and return its loss."""
        s = self.settings
        rate = cosine_rate(self.step, warmup=min(s.warmup, s.steps // 5), steps=s.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * s.learning_rate
        self.optimizer.zero_grad(set_to_none=False)
        loss = self.data.loss(self.network, self._choose(), self.device)
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        self.average.update_parameters(self.network)
        self.step += 1
        return float(loss.detach())

    @property
    def averaged(self) -> EnergyNetwork:
        """Ranker with the averaged weights, for inference."""
        result = EnergyNetwork(self.network.settings)
        result.load_state_dict(self.average.module.state_dict())
        return result.eval()


def train_ranker(trainer: RankerTrainer, *, report: Callable[[float], None] = lambda loss: None) -> None:
    """Train until the last step; ``report`` receives the mean loss since its last call."""
    settings, losses = trainer.settings, []
    while trainer.step < settings.steps:
        losses.append(trainer.train_step())
        if trainer.step % settings.report_every == 0 or trainer.step == settings.steps:
            report(float(np.mean(losses)))
            losses.clear()


@dataclass(frozen=True, kw_only=True)
class RankingQuality:
    """Agreement with GFN2-xTB energies, as means over molecules.

    Attributes:
        ranker: Spearman's rank correlation of the ranker.
        force_field: The same of MMFF94s.
        ranker_error: Root mean square error of the ranker's centred energies, kcal/mol.
        force_field_error: The same of MMFF94s.
    """

    ranker: float
    force_field: float
    ranker_error: float
    force_field_error: float


def ranking_quality(ranker: EnergyNetwork, sets: Sequence[RankedSet]) -> RankingQuality:
    """Score a ranker on the molecules that have at least five conformers."""
    from scipy.stats import spearmanr

    rows = []
    for s in sets:
        energies = s.conformers.energies
        if energies is None or len(energies) < 5 or np.ptp(energies) == 0 or np.ptp(s.baseline) == 0:
            continue
        guess = predict_energies(ranker, s.conformers.molecule, s.conformers.positions, s.baseline)

        def error(values: np.ndarray, wanted: np.ndarray = energies) -> float:
            difference = values - wanted
            return float(np.sqrt(((difference - difference.mean()) ** 2).mean()))

        rho = [float(spearmanr(v, energies).statistic) for v in (guess, s.baseline)]
        rows.append((*rho, error(guess), error(s.baseline)))
    mean = np.mean(rows, axis=0).tolist() if rows else [float("nan")] * 4
    return RankingQuality(ranker=mean[0], force_field=mean[1], ranker_error=mean[2], force_field_error=mean[3])
