"""Fitting the torsion model to torsions of GFN2-xTB minima."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import dropout, layer_norm, linear, one_hot, silu

from conformergen.errors import InputError
from conformergen.torsion.features import (
    ELEMENTS,
    FEATURE_SIZES,
    PAIR_CODES,
    RELATION_SIZES,
    TorsionFeatures,
)
from conformergen.torsion.model import BINS, EPSILON, HARMONICS, TorsionModel
from conformergen.training.torsion_data import TorsionSet
from conformergen.training.trainer import cosine_rate

#: Energy over which the weight of a minimum falls to 1/e, kcal/mol. No level of theory here is exact, and a reference
#: ensemble reaches up to 6 kcal/mol.
TEMPERATURE: Final = 2.5
#: Molecules that are scored together.
_SCORED_MOLECULES: Final = 32
#: Conformers drawn of each molecule that is scored.
_SCORED_CONFORMERS: Final = 12
#: Weight matrices that map channels to channels, which Muon trains.
_INNER: Final = ("angle", "end", "gate", "k", "narrow", "o", "q", "token", "v", "wide")
#: Part of the probability of a bin that its two neighbours get in training.
_SMOOTHING: Final = 0.3
#: Fraction of uniformly drawn torsions in the distribution that is scored, as in the search.
_UNIFORM: Final = 0.05
#: Smallest learning rate as a fraction of the peak.
_LEAST_RATE: Final = 0.01


@dataclass(frozen=True, kw_only=True)
class TorsionModelSettings:
    """How the torsion model is fitted.

    Attributes:
        steps: Number of optimiser steps.
        learning_rate: Peak learning rate; a linear warm-up precedes it, and a cosine follows.
        warmup: Steps of warm-up.
        weight_decay: Weight decay of both optimisers.
        dropout: Dropout of what a layer adds.
        molecules: Molecules in one step.
        conformers: Conformers of each molecule in one step.
        channels: Width of the network.
        atom_layers: Attention layers over atoms.
        torsion_layers: Attention layers over torsions.
        heads: Attention heads.
        muon: Train inner matrices with Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon), everything
            else with AdamW; False trains all weights with AdamW.
        report_every: Steps between evaluations on held-out molecules.
        seed: Seed of weights and batches.
    """

    steps: int = 8000
    learning_rate: float = 2e-3
    warmup: int = 200
    weight_decay: float = 0.1
    dropout: float = 0.2
    molecules: int = 48
    conformers: int = 4
    channels: int = 96
    atom_layers: int = 4
    torsion_layers: int = 3
    heads: int = 8
    muon: bool = True
    report_every: int = 500
    seed: int = 0

    def __post_init__(self) -> None:
        counts = (self.steps, self.molecules, self.conformers, self.channels, self.heads, self.report_every)
        if min(*counts, self.atom_layers, self.torsion_layers) < 1 or self.warmup < 0 or self.learning_rate <= 0:
            raise InputError("torsion model: counts of at least 1 and a positive learning rate are required")
        if self.channels % self.heads or not 0 <= self.dropout < 1:
            raise InputError("torsion model: heads must divide channels, and 0 <= dropout < 1 is required")


class FusedTorsionModel(TorsionModel):
    """The same network with torch's fused operations, which take three fifths of the time of a training step."""

    def _attention(self, q: Tensor, k: Tensor, bias: Tensor) -> Tensor:
        return (q / q.shape[-1] ** 0.5 @ k.transpose(-1, -2) + bias).softmax(-1)

    def _linear(self, x: Tensor, at: str) -> Tensor:
        return linear(x, self.weights[f"{at}.weight"], self.weights[f"{at}.bias"])

    def _layer_norm(self, x: Tensor, at: str) -> Tensor:
        return layer_norm(x, x.shape[-1:], self.weights[f"{at}.weight"], self.weights[f"{at}.bias"], EPSILON)

    def _silu(self, x: Tensor) -> Tensor:
        return silu(x)


@dataclass(frozen=True, eq=False, kw_only=True)
class TorsionBatch:
    """Some conformers of some molecules.

    Attributes:
        features: Codes, padded to one size.
        radians: Torsions.
        atoms: Which atoms exist, for each molecule.
        torsions: Which torsions exist, for each conformer.
    """

    features: TorsionFeatures
    radians: Float[Tensor, "conf torsion"]
    atoms: Bool[Tensor, "molecule atom"]
    torsions: Bool[Tensor, "conf torsion"]


class PaddedTorsions:
    """Molecules and their conformers in padded tensors.

    Args:
        sets: At least one molecule.
        shares: How often each molecule is drawn, relative to the others.
    """

    def __init__(self, sets: Sequence[TorsionSet], shares: Sequence[float] | None = None) -> None:
        self.shares = torch.ones(len(sets)) if shares is None else torch.tensor(shares)
        self.n_atoms = torch.tensor([t.features.elements.shape[1] for t in sets])
        self.n_torsions = torch.tensor([t.radians.shape[1] for t in sets])
        counts = np.array([len(t.radians) for t in sets])
        self.first = torch.from_numpy(np.cumsum(counts) - counts)
        n, atoms, torsions = len(sets), int(self.n_atoms.max()), int(self.n_torsions.max())
        conformers = int(counts.sum())
        self.elements = torch.zeros(n, atoms, dtype=torch.uint8)
        self.features = torch.zeros(n, atoms, len(FEATURE_SIZES), dtype=torch.uint8)
        self.pairs = torch.zeros(n, atoms, atoms, dtype=torch.uint8)
        self.quartets = torch.zeros(n, torsions, 4, dtype=torch.uint8)
        self.radians = torch.zeros(conformers, torsions)
        self.sides = torch.zeros(conformers, torsions, 2, dtype=torch.uint8)
        self.relations = torch.zeros(conformers, torsions, torsions, dtype=torch.int16)
        self.weights = torch.zeros(n, int(counts.max()))
        for i, t in enumerate(sets):
            self._fill(i, t)
        #: Molecules of similar size stand together.
        self.order = (self.n_torsions * 256 + self.n_atoms).argsort()

    def _fill(self, i: int, t: TorsionSet) -> None:
        r, begin = t.radians.shape[1], int(self.first[i])
        own = slice(begin, begin + len(t.radians))
        for name in ("elements", "features", "pairs", "quartets"):
            target, values = getattr(self, name), torch.from_numpy(getattr(t.features, name)[0])
            target[i][tuple(slice(k) for k in values.shape)] = values.to(target.dtype)
        self.radians[own, :r] = torch.from_numpy(t.radians).float()
        self.sides[own, :r] = torch.from_numpy(t.features.sides).to(torch.uint8)
        self.relations[own, :r, :r] = torch.from_numpy(t.features.relations).to(torch.int16)
        weights = np.exp(-(t.energies.astype(np.float64) - t.energies.min()) / TEMPERATURE)
        self.weights[i, : len(weights)] = torch.from_numpy(weights / weights.sum())

    def batch(self, molecules: Tensor, conformers: int) -> TorsionBatch:
        """Draw conformers of each molecule by Boltzmann weight; half of them are mirrored."""
        atoms, r = int(self.n_atoms[molecules].max()), int(self.n_torsions[molecules].max())
        drawn = torch.multinomial(self.weights[molecules], conformers, replacement=True)
        chosen = (drawn + self.first[molecules][:, None]).ravel()
        mirrored = torch.rand(len(chosen)) < 0.5
        sides, relations = self.sides[chosen, :r].long(), self.relations[chosen, :r, :r].long()
        hands = RELATION_SIZES[2] * RELATION_SIZES[3]
        reflected = relations - 2 * (relations % hands) + hands - 1
        features = TorsionFeatures(
            elements=self.elements[molecules, :atoms].long(),
            features=self.features[molecules, :atoms].long(),
            pairs=self.pairs[molecules, :atoms, :atoms].long(),
            quartets=self.quartets[molecules, :r].long(),
            sides=torch.where(mirrored[:, None, None], 2 - sides, sides),
            relations=torch.where(mirrored[:, None, None], reflected, relations),
        )
        n_torsions = self.n_torsions[molecules.repeat_interleave(conformers)]
        return TorsionBatch(
            features=features,
            radians=self.radians[chosen, :r] * torch.where(mirrored, -1.0, 1.0)[:, None],
            atoms=torch.arange(atoms) < self.n_atoms[molecules][:, None],
            torsions=torch.arange(r) < n_torsions[:, None],
        )


def initial_weights(settings: TorsionModelSettings) -> dict[str, Tensor]:
    """Weights as ``nn.Linear``, ``nn.Embedding`` and ``nn.LayerNorm`` initialise them."""
    c = settings.channels
    modules: dict[str, nn.Module] = {"element": nn.Embedding(len(ELEMENTS) + 1, c), "side": nn.Embedding(3, c)}
    modules |= {f"feature.{k}": nn.Embedding(size, c) for k, size in enumerate(FEATURE_SIZES)}
    modules |= {f"relation.{k}": nn.Embedding(size, c) for k, size in enumerate(RELATION_SIZES)}
    blocks = [f"atoms.{i}" for i in range(settings.atom_layers)]
    blocks += [f"rotors.{i}" for i in range(settings.torsion_layers)]
    for at in blocks:
        modules |= {f"{at}.{name}": nn.Linear(c, c) for name in "qkvo"}
        modules |= {f"{at}.{name}": nn.LayerNorm(c) for name in ("before", "after")}
        modules |= {f"{at}.wide": nn.Linear(c, 2 * c), f"{at}.narrow": nn.Linear(2 * c, c)}
        if at.startswith("atoms"):
            modules[f"{at}.bias"] = nn.Embedding(PAIR_CODES, settings.heads)
        else:
            modules |= {f"{at}.bias": nn.Linear(c, settings.heads), f"{at}.gate": nn.Linear(c, c)}
    modules |= {"norm": nn.LayerNorm(c), "last": nn.LayerNorm(c), "out": nn.Linear(c, BINS)}
    modules |= {"end": nn.Linear(2 * c, c), "token": nn.Linear(2 * c, c), "angle": nn.Linear(2 * HARMONICS, c)}
    weights: dict[str, Tensor] = {f"{name}.{key}": p for name, m in modules.items() for key, p in m.named_parameters()}
    return weights | {"open": nn.Parameter(torch.zeros(c))}


def make_optimisers(weights: Mapping[str, Tensor], settings: TorsionModelSettings) -> list[torch.optim.Optimizer]:
    """AdamW, and Muon for the inner matrices."""
    groups: tuple[list[Tensor], list[Tensor]] = ([], [])
    for name, w in weights.items():
        groups[w.ndim == 2 and name.split(".")[-2] in _INNER and settings.muon].append(w)
    others, matrices = groups
    rate, decay = settings.learning_rate, settings.weight_decay
    optimisers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(others, lr=rate, weight_decay=decay, betas=(0.9, 0.98))
    ]
    if matrices:
        optimisers.append(torch.optim.Muon(matrices, lr=rate, weight_decay=decay, adjust_lr_fn="match_rms_adamw"))
    return optimisers


def cross_entropy(
    model: TorsionModel, data: PaddedTorsions, molecules: Tensor, conformers: int, *, given: bool, score: bool
) -> Float[Tensor, " conf"]:
    """Mean cross-entropy of the open torsions of each conformer, nats.

    Args:
        model: The network.
        data: Molecules.
        molecules: Indices of some of them.
        conformers: Conformers drawn of each.
        given: Whether a random part of the torsions is known.
        score: Score the distribution that the search draws from; otherwise targets are smoothed for training.
    """
    batch = data.batch(molecules, conformers)
    ends = model.describe_ends(batch.features, atoms=batch.atoms).repeat_interleave(conformers, 0)
    known = torch.zeros_like(batch.torsions)
    if given:
        ranks = torch.rand(batch.torsions.shape).masked_fill(~batch.torsions, 2.0).argsort(1).argsort(1)
        known = ranks < (torch.rand(len(known), 1) * batch.torsions.sum(1, keepdim=True)).floor()
    logits = model.condition(ends, batch.features, present=batch.torsions)(batch.radians, known).log_softmax(-1)
    bins = (torch.rad2deg(batch.radians) + 180.0).div(360.0 / BINS).long() % BINS
    target = one_hot(bins, BINS).float()
    if score:
        logits = (logits.exp() * (1.0 - _UNIFORM) + _UNIFORM / BINS).log()
    else:
        beside = target.roll(1, -1) + target.roll(-1, -1)
        target = (1.0 - _SMOOTHING) * target + 0.5 * _SMOOTHING * beside
    left = batch.torsions & ~known
    return (-(target * logits).sum(-1) * left).sum(1) / left.sum(1).clamp(min=1)


@torch.no_grad()
def score_torsions(model: TorsionModel, data: PaddedTorsions) -> tuple[float, float]:
    """Nats of each torsion by itself, and with a random part of the others given; always of the same draws."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        parts = data.order.split(_SCORED_MOLECULES)
        weights = torch.cat([data.n_torsions[ids].repeat_interleave(_SCORED_CONFORMERS) for ids in parts]).float()
        results = []
        for given in (False, True):
            values = torch.cat(
                [cross_entropy(model, data, ids, _SCORED_CONFORMERS, given=given, score=True) for ids in parts]
            )
            results.append(float((values * weights).sum() / weights.sum()))
    return results[0], results[1]


class TorsionModelTrainer:
    """Weights, averaged weights and optimisers. Every step depends on (seed, step) and the state."""

    def __init__(
        self, data: PaddedTorsions, settings: TorsionModelSettings, init: Mapping[str, np.ndarray] | None = None
    ) -> None:
        torch.manual_seed(settings.seed)
        self.data, self.settings = data, settings
        if init is None:
            self.weights = initial_weights(settings)
        else:
            self.weights = {name: nn.Parameter(torch.from_numpy(w)) for name, w in init.items()}
        self.averaged = {name: w.detach().clone() for name, w in self.weights.items()}
        self.optimisers = make_optimisers(self.weights, settings)
        self.step = 0

    def train_step(self) -> float:
        """Take one optimiser step on molecules of similar size and return its loss."""
        s, data = self.settings, self.data
        torch.manual_seed((s.seed << 32) + self.step)
        rate = max(_LEAST_RATE, cosine_rate(self.step, warmup=s.warmup, steps=s.steps))
        for group in (group for optimiser in self.optimisers for group in optimiser.param_groups):
            group["lr"] = s.learning_rate * rate
        begin = int(torch.randint(0, max(1, len(data.order) - 8 * s.molecules), ()))
        near = data.order[begin : begin + 8 * s.molecules]
        ids = near[torch.multinomial(data.shares[near], min(s.molecules, len(near)))]
        model = FusedTorsionModel(weights=self.weights, ops=torch, dropout=lambda x: dropout(x, s.dropout))
        loss = cross_entropy(model, data, ids, s.conformers, given=True, score=False).mean()
        loss.backward()
        nn.utils.clip_grad_norm_(self.weights.values(), 1.0)
        for optimiser in self.optimisers:
            optimiser.step()
            optimiser.zero_grad()
        with torch.no_grad():
            rate = max(0.002, 9 / (self.step + 10))
            torch._foreach_lerp_(list(self.averaged.values()), list(self.weights.values()), rate)
        self.step += 1
        return float(loss.detach())

    def score(self, held_out: PaddedTorsions) -> tuple[float, float]:
        """Nats of the averaged weights; see ``score_torsions``."""
        return score_torsions(FusedTorsionModel(weights=self.averaged, ops=torch), held_out)


def train_torsion_model(
    trainer: TorsionModelTrainer,
    held_out: PaddedTorsions,
    *,
    report: Callable[[int, tuple[float, float], bool], None],
) -> None:
    """Train until the last step.

    Args:
        trainer: State.
        held_out: Molecules on which the weights are judged.
        report: Receives step, nats on the held-out molecules, and whether they are the best so far.
    """
    best = float("inf")
    settings = trainer.settings
    while trainer.step < settings.steps:
        trainer.train_step()
        if trainer.step % settings.report_every == 0 or trainer.step == settings.steps:
            nats = trainer.score(held_out)
            improved, best = nats[1] < best, min(best, nats[1])
            report(trainer.step, nats, improved)
