"""Fitting the ranker: differences of energy between conformers of one molecule."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from conformergen.datasets.collate import GraphTables, collate_graphs, pad_positions
from conformergen.datasets.ranked import RankedSet
from conformergen.errors import InputError
from conformergen.nn.energy import EnergyNetwork
from conformergen.training.loop import cosine_rate, ema

#: Energies this far above the lowest, kcal/mol, count no more: what ranks there is never emitted.
_CEILING: Final = 15.0
#: Errors below this many kcal/mol count quadratically.
_HUBER: Final = 1.0


@dataclass(frozen=True, kw_only=True)
class RankingSettings:
    """How the ranker is fitted.

    Attributes:
        steps: Optimiser steps.
        learning_rate: Peak; linear warm-up, then a cosine to 0.
        warmup: Steps of warm-up, at most a fifth of all.
        weight_decay: AdamW decay.
        molecules: Molecules in one step.
        conformers: Conformers of each molecule in one step, at most.
        ema: Decay of the averaged weights.
        report_every: Steps between reports.
        seed: Of weights and batches.
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


class RankingData:
    """Molecules in memory, with their pair tables.

    Raises:
        InputError: Without any molecule of at least two conformers with energies.
    """

    def __init__(self, sets: Sequence[RankedSet]) -> None:
        self.sets = [s for s in sets if len(s.conformers) > 1 and s.conformers.energies is not None]
        if not self.sets:
            raise InputError("the ranking data hold no molecule with two conformers and energies")
        self.tables = [GraphTables(s.conformers.molecule.graph) for s in self.sets]

    def loss(self, network: nn.Module, chosen: Sequence[tuple[int, np.ndarray]], device: torch.device) -> Tensor:
        """Mean pseudo-Huber error, kcal/mol, of centred energies of some conformers of some molecules."""
        graph = collate_graphs([self.tables[i] for i, rows in chosen for _ in rows]).to(device)
        positions = [self.sets[i].conformers.positions[r] for i, rows in chosen for r in rows]
        owner = torch.tensor([k for k, (_, rows) in enumerate(chosen) for _ in rows], device=device)

        def column(values: list[np.ndarray]) -> Tensor:
            return torch.from_numpy(np.concatenate(values).astype(np.float32)).to(device)

        wanted = column([_clipped(self.sets[i].conformers.energies)[rows] for i, rows in chosen])
        baseline = column([_clipped(self.sets[i].baseline)[rows] for i, rows in chosen])
        x = pad_positions(positions, graph.mask.shape[1]).to(device)
        error = network(graph, x, baseline) - wanted
        counts = torch.bincount(owner).to(error.dtype)
        error = error - (torch.zeros_like(counts).index_add_(0, owner, error) / counts)[owner]
        return _HUBER * ((1.0 + (error / _HUBER).square()).sqrt() - 1.0).mean()


def _clipped(energies: np.ndarray | None) -> np.ndarray:
    assert energies is not None
    return np.minimum(energies - energies.min(), _CEILING)


class RankerTrainer:
    """Ranker, averaged ranker, optimiser and step. Batches are drawn from (seed, epoch) and (seed, step)."""

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

    def _chosen(self) -> list[tuple[int, np.ndarray]]:
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
        """One optimiser step; its loss."""
        s = self.settings
        rate = cosine_rate(self.step, warmup=min(s.warmup, s.steps // 5), steps=s.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * s.learning_rate
        self.optimizer.zero_grad(set_to_none=False)
        loss = self.data.loss(self.network, self._chosen(), self.device)
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
    """Train to the last step. ``report`` gets the mean loss since its last call."""
    settings, losses = trainer.settings, []
    while trainer.step < settings.steps:
        losses.append(trainer.train_step())
        if trainer.step % settings.report_every == 0 or trainer.step == settings.steps:
            report(float(np.mean(losses)))
            losses.clear()
