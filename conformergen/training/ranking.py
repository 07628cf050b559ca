"""Fitting the ranker: differences of energy between conformers of one molecule."""

import math
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
from conformergen.training.loop import ema

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
        seed: Of weights and batches.
    """

    steps: int = 4000
    learning_rate: float = 1e-3
    warmup: int = 200
    weight_decay: float = 0.01
    molecules: int = 4
    conformers: int = 10
    ema: float = 0.998
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.steps, self.molecules, self.learning_rate) <= 0 or self.conformers < 2:
            raise InputError("ranking: steps, molecules and learning_rate above 0, at least 2 conformers are required")


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


def train_ranker(
    network: EnergyNetwork,
    data: RankingData,
    settings: RankingSettings,
    *,
    device: torch.device | str = "cpu",
    log: Callable[[int, float, EnergyNetwork], None] = lambda step, loss, network: None,
    every: int = 250,
) -> EnergyNetwork:
    """Fit; returns the network with averaged weights. ``log`` gets the mean loss and that network."""
    device = torch.device(device)
    network = network.to(device).train()
    average = AveragedModel(network, avg_fn=ema(settings.ema))
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, foreach=True
    )
    rng = np.random.default_rng(settings.seed)
    order: list[int] = []
    total = 0.0
    for step in range(settings.steps):
        while len(order) < settings.molecules:
            order.extend(rng.permutation(len(data.sets)).tolist())
        picked, order = order[: settings.molecules], order[settings.molecules :]
        chosen = [(i, rng.permutation(len(data.sets[i].conformers))[: settings.conformers]) for i in picked]
        rate = min(1.0, (step + 1) / max(1, min(settings.warmup, settings.steps // 5)))
        rate *= 0.5 * (1.0 + math.cos(math.pi * step / settings.steps))
        for group in optimizer.param_groups:
            group["lr"] = rate * settings.learning_rate
        optimizer.zero_grad(set_to_none=False)
        loss = data.loss(network, chosen, device)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        average.update_parameters(network)
        total += float(loss.detach())
        if (step + 1) % every == 0 or step + 1 == settings.steps:
            log(step + 1, total / ((step % every) + 1), averaged(network, average))
            total = 0.0
    return averaged(network, average)


def averaged(network: EnergyNetwork, average: AveragedModel) -> EnergyNetwork:
    """A network with the averaged weights."""
    result = EnergyNetwork(network.settings)
    result.load_state_dict(average.module.state_dict())
    return result.eval()
