"""One optimiser step, the loop around it, and the state that a checkpoint must hold.

Every step is a pure function of the state: batch order from (seed, epoch, cursor), noise and rotations from
(seed, step). So a resumed run repeats the uninterrupted one bit for bit on the CPU.
"""

import hashlib
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from conformergen.datasets.loader import PlannedBatch, TrainingBatch, TrainingSet
from conformergen.diffusion import LOSSES, PRIORS, DiffusionSettings, denoise
from conformergen.errors import DivergedError, InputError
from conformergen.geometry.rotations import centre, haar_rotations
from conformergen.nn import RELAXATION_MODES, Backbone, make_backbone
from conformergen.nn.relaxation import StepTerms, collect_sums
from conformergen.records.batch import GraphBatch

#: More skipped steps than this within so many steps are a collapse.
_SKIPPED: Final = (5, 100)


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """How the network is fitted.

    Attributes:
        steps: Optimiser steps.
        learning_rate: Peak of the schedule.
        warmup: Steps of linear warm-up; a cosine to 0 follows.
        weight_decay: AdamW decay of everything but relaxed branches.
        clip: Largest gradient norm, branches left out.
        ema: Decay of the averaged weights, reached after a warm-up.
        pair_budget: Padded atom pairs in one batch.
        confs_per_epoch: Conformers drawn from each molecule in one epoch.
        accumulate: Batches summed into one optimiser step.
        rotate: One Haar rotation of each molecule and step; without it a relaxed layer learns the frame.
        bf16: Autocast linear layers to bfloat16; coordinates and distances stay float32.
        validate_every: Steps between validations.
        checkpoint_every: Steps between checkpoints.
        log_every: Steps between log lines.
        seed: Of weights, batches, noise and rotations.
    """

    steps: int = 20_000
    learning_rate: float = 1e-3
    warmup: int = 200
    weight_decay: float = 0.01
    clip: float = 1.0
    ema: float = 0.999
    pair_budget: int = 64_000
    confs_per_epoch: int = 10
    accumulate: int = 1
    rotate: bool = True
    bf16: bool = False
    validate_every: int = 500
    checkpoint_every: int = 500
    log_every: int = 50
    seed: int = 0

    def __post_init__(self) -> None:
        counts = (self.steps, self.pair_budget, self.confs_per_epoch, self.accumulate)
        if min(*counts, self.validate_every, self.checkpoint_every, self.log_every) < 1 or self.warmup < 0:
            raise InputError("training: counts and intervals must be at least 1, warmup at least 0")
        if self.learning_rate <= 0 or self.clip <= 0 or not 0 <= self.ema < 1:
            raise InputError("training: learning_rate > 0, clip > 0 and 0 <= ema < 1 are required")


@dataclass(frozen=True, kw_only=True)
class LogLine:
    """What one log line holds.

    ``max_beta`` and ``layer_betas`` are largest absolute levels; ``val_loss`` is of the averaged weights at beta = 0,
    ``val_loss_relaxed`` at the levels as they are; ``equivariance_error`` is the sampler's, Å, at the levels as they
    are.
    """

    step: int
    loss: float
    learning_rate: float
    gradient_norm: float
    max_beta: float
    seconds: float
    val_loss: float | None = None
    layer_betas: tuple[float, ...] = ()
    val_loss_relaxed: float | None = None
    equivariance_error: float | None = None


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class NoisedBatch:
    """Noisy and clean positions in one frame, Å, and the noise level of each graph."""

    graph: GraphBatch
    x: Float[Tensor, "batch atom 3"]
    data: Float[Tensor, "batch atom 3"]
    level: Float[Tensor, " batch"]

    def rotated(self, quaternions: Float[Tensor, "batch 4"]) -> "NoisedBatch":
        """The same batch, each graph turned by its own Haar rotation."""
        rotation = haar_rotations(quaternions).mT
        return replace(self, x=self.x @ rotation, data=self.data @ rotation)


class Trainer:
    """Network, averaged network, optimiser, relaxation and position in the data."""

    def __init__(
        self,
        network: Backbone,
        diffusion: DiffusionSettings,
        settings: TrainingSettings,
        *,
        relaxation: str,
        device: torch.device | str,
    ) -> None:
        self.device = torch.device(device)
        self.network = network.to(self.device)
        self.diffusion, self.settings = diffusion, settings
        self.path = diffusion.make_path()
        # Buffers (states, levels and scales of the branches) are copied by AveragedModel, never averaged.
        self.average = AveragedModel(self.network, avg_fn=ema(settings.ema))
        # A deep copy of e3nn's compiled products lists other buffers than the original; a second build does not.
        self.average.module = make_backbone(network.settings).to(self.device)
        self.average.module.load_state_dict(self.network.state_dict())
        for parameter in self.average.parameters():
            parameter.requires_grad = False
        self.branches = self.network.branches()
        branch_ids = {id(p) for b in self.branches for p in b.parameters()}
        self.core = [p for p in self.network.parameters() if p.requires_grad and id(p) not in branch_ids]
        loose = [p for b in self.branches for p in b.parameters()]
        groups = [{"params": self.core, "weight_decay": settings.weight_decay}]
        if loose:
            groups.append({"params": loose, "weight_decay": 0.0})
        self.optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate, foreach=True)
        self.relaxation = RELAXATION_MODES[relaxation](network.settings.relaxation, total_steps=settings.steps)
        distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
        self.rank = torch.distributed.get_rank() if distributed else 0
        self.n_ranks = torch.distributed.get_world_size() if distributed else 1
        self.step, self.epoch, self.cursor = 0, 0, 0
        self.n_skipped = 0
        #: Steps among the newest hundred that were skipped, and the factor on the learning rate after a collapse.
        self.skipped: list[int] = []
        self.caution = 1.0

    def rng(self, purpose: str) -> torch.Generator:
        """Generator of one step and purpose."""
        digest = hashlib.sha256(f"{self.settings.seed}|{self.step}|{purpose}".encode()).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest[:7], "little"))

    def agree(self, flag: bool) -> bool:  # noqa: FBT001  a vote, not an option
        """Whether any process says so."""
        if self.n_ranks == 1:
            return flag
        vote = torch.tensor(float(flag), device=self.device)
        torch.distributed.all_reduce(vote, op=torch.distributed.ReduceOp.MAX)
        return bool(vote)

    def learning_rate(self) -> float:
        """Linear warm-up, then a cosine to 0; halved after a collapse."""
        s = self.settings
        return s.learning_rate * self.caution * cosine_rate(self.step, warmup=s.warmup, steps=s.steps)

    @property
    def averaged(self) -> Backbone:
        """Network with the averaged weights."""
        module = self.average.module
        assert isinstance(module, Backbone)
        return module

    def train_step(self, data: TrainingSet, batches: Iterator[PlannedBatch]) -> tuple[Tensor, Tensor]:
        """One optimiser step; returns the loss and the gradient norm as tensors on the device.

        A step takes ``accumulate`` batches for each process; every process knows all of them and collates its own.

        Raises:
            DivergedError: When more than five of the newest hundred steps had a non-finite gradient.
        """
        self.network.train()
        rate = self.learning_rate()
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=False)
        planned = [next(batches) for _ in range(self.settings.accumulate * self.n_ranks)]
        self.epoch, self.cursor, _ = planned[-1]
        n_graphs = sum(len(examples) for _, _, examples in planned)
        total = torch.zeros((), device=self.device)
        for index in range(self.rank, len(planned), self.n_ranks):
            batch = data.collate(planned[index][2]).to(self.device)
            rng = self.rng(f"train|{index}")
            noised = self.draw(batch, rng)
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.settings.bf16):
                loss = self.loss(self.network, noised).sum() / n_graphs
                objective = self.relaxation.objective(loss, self._terms(noised, rng, n_graphs))
            objective.backward()
            total += loss.detach()
        self._reduce_gradients(total)
        norm = nn.utils.clip_grad_norm_(self.core, self.settings.clip)
        sums = collect_sums(self.branches)
        # A step with a non-finite gradient changes nothing; the flag is read once, after the work is queued.
        if bool(torch.stack([torch.isfinite(t).all() for t in (norm, *sums)]).all()):
            self.relaxation.advance(self.branches, sums, step=self.step)
            self.optimizer.step()
            self.average.update_parameters(self.network)
            for ours, averaged in zip(self.branches, self.averaged.branches(), strict=True):
                averaged.beta.data.copy_(ours.beta)  # a level is a setting of the network, not a weight to average
        else:
            self._skip(planned)
        self.step += 1
        return total, norm

    def _skip(self, planned: list[PlannedBatch]) -> None:
        most, span = _SKIPPED
        self.n_skipped += 1
        self.skipped = [*(s for s in self.skipped if s > self.step - span), self.step]
        if len(self.skipped) > most:
            molecules = sorted({molecule for _, _, examples in planned for molecule, _ in examples})
            raise DivergedError(
                f"training collapsed: steps {self.skipped} had a non-finite gradient; the last one saw the "
                f"training molecules {molecules}"
            )

    def is_finite(self) -> bool:
        """Whether every weight is a number: only such a state is worth keeping."""
        return all(bool(torch.isfinite(p).all()) for p in self.network.parameters())

    def _terms(self, noised: NoisedBatch, rng: torch.Generator, n_graphs: int) -> StepTerms:
        def rotated() -> Tensor:
            quaternions = torch.randn(len(noised.x), 4, generator=rng).to(self.device)
            return self.loss(self.network, noised.rotated(quaternions)).sum() / n_graphs

        return StepTerms(branches=self.branches, core=self.core, rotated=rotated)

    def _reduce_gradients(self, total: Tensor) -> None:
        """Sum gradients and the loss over processes, in one reduction: each divided by the global count already."""
        if self.n_ranks == 1:
            return
        gradients = [p.grad for p in self.network.parameters() if p.grad is not None]
        joined = torch.cat([total.view(1), *[g.flatten() for g in gradients]])
        torch.distributed.all_reduce(joined)
        total.copy_(joined[0])
        for gradient, part in zip(gradients, joined[1:].split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))

    def draw(self, batch: TrainingBatch, rng: torch.Generator) -> NoisedBatch:
        """Noise each graph at a random level, after one random rotation of each molecule."""
        size = len(batch.data)
        uniform = torch.rand(size, generator=rng).to(self.device)
        normal = torch.randn(batch.data.shape, generator=rng).to(self.device)
        quaternions = torch.randn(size, 4, generator=rng).to(self.device)
        data = centre(batch.data, batch.graph)
        seeds = None if batch.seeds is None else centre(batch.seeds, batch.graph)
        if self.settings.rotate:
            rotation = haar_rotations(quaternions)
            data = data @ rotation.mT
            seeds = None if seeds is None else seeds @ rotation.mT
        anchor, noise = PRIORS[self.diffusion.prior](batch.graph, normal, seeds)
        level = self.path.draw(uniform)
        return NoisedBatch(graph=batch.graph, x=self.path.mix(anchor, noise, data, level), data=data, level=level)

    def loss(self, network: nn.Module, noised: NoisedBatch) -> Float[Tensor, " batch"]:
        """Loss of each graph."""
        denoised = denoise(network, self.path, noised.graph, noised.x, noised.level)
        weight = self.path.weight(noised.level)
        return LOSSES[self.diffusion.loss](denoised.float(), noised.data, noised.graph, weight)

    @torch.no_grad()
    def validation_loss(self, data: TrainingSet, *, relaxed: bool) -> float:
        """Loss of the averaged weights on a fixed draw of noise; at beta = 0 unless ``relaxed``."""
        network = self.averaged.eval()
        rng = torch.Generator().manual_seed(self.settings.seed)
        total, count = 0.0, 0
        with nullcontext() if relaxed else levels_closed(network):
            for examples in data.plan(self.settings.seed, 0):
                losses = self.loss(network, self.draw(data.collate(examples).to(self.device), rng))
                total, count = total + float(losses.sum()), count + len(losses)
        return total / count

    def max_beta(self) -> float:
        """Largest absolute level over all blocks."""
        return max((b.max_level for b in self.branches), default=0.0)


def cosine_rate(step: int, *, warmup: int, steps: int) -> float:
    """Share of the peak learning rate: a linear warm-up, then a cosine to 0."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1.0 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, steps - warmup))))


def ema(decay: float) -> Callable[[Tensor, Tensor, Tensor | int], Tensor]:
    """Exponential average whose memory grows with the run until ``decay`` is reached."""

    def average(averaged: Tensor, current: Tensor, count: Tensor | int) -> Tensor:
        rate = 1.0 - min(decay, (1.0 + float(count)) / (10.0 + float(count)))
        return averaged.lerp(current, rate)

    return average


@contextmanager
def levels_closed(network: Backbone) -> Iterator[None]:
    """Run a network with every level at 0, and restore the levels."""
    branches = network.branches()
    saved = [b.beta.detach().clone() for b in branches]
    for branch in branches:
        branch.beta.data.zero_()
    try:
        yield
    finally:
        for branch, beta in zip(branches, saved, strict=True):
            branch.beta.data.copy_(beta)


def train_loop(
    trainer: Trainer,
    data: TrainingSet,
    validation: TrainingSet | None,
    *,
    log: Callable[[LogLine], None] = lambda line: None,
    save: Callable[[Trainer, float | None], None] = lambda trainer, val_loss: None,
    symmetry: Callable[[Backbone, torch.device], float] | None = None,
    deadline: float | None = None,
    request: Callable[[], str | None] = lambda: None,
) -> None:
    """Train to the last step, the deadline (``time.monotonic``) or a request to stop; then save.

    Args:
        trainer: State, at any step.
        data: Training ensembles.
        validation: Validation ensembles, or None.
        log: Receives a line every ``log_every`` steps and at each validation.
        save: Commits a checkpoint; its second argument is the newest validation loss.
        symmetry: Equivariance error of the whole sampler with a network, Å; asked at each validation.
        deadline: Stop when the monotonic clock passes it.
        request: Asked after each step; ``stop``, ``checkpoint`` (and go on), or None.

    Raises:
        DivergedError: As ``Trainer.train_step``, or for weights that are no numbers where they should be saved.
    """
    settings = trainer.settings
    batches = data.stream(settings.seed, trainer.epoch, trainer.cursor)
    began, loss_sum, count = time.monotonic(), torch.zeros((), device=trainer.device), 0
    val_loss: float | None = None
    while trainer.step < settings.steps:
        loss, norm = trainer.train_step(data, batches)
        loss_sum, count = loss_sum + loss, count + 1
        last = trainer.step == settings.steps
        validating = validation is not None and (last or trainer.step % settings.validate_every == 0)
        if validating or last or trainer.step % settings.log_every == 0:
            relaxed = error = None
            if validating and validation is not None:
                val_loss = trainer.validation_loss(validation, relaxed=False)
                relaxed = trainer.validation_loss(validation, relaxed=True) if trainer.branches else val_loss
                error = None if symmetry is None else symmetry(trainer.averaged.eval(), trainer.device)
            log(
                LogLine(
                    step=trainer.step,
                    loss=float(loss_sum) / count,
                    learning_rate=trainer.learning_rate(),
                    gradient_norm=float(norm),
                    max_beta=trainer.max_beta(),
                    layer_betas=tuple(b.max_level for b in trainer.branches),
                    seconds=time.monotonic() - began,
                    val_loss=val_loss if validating else None,
                    val_loss_relaxed=relaxed,
                    equivariance_error=error,
                )
            )
            loss_sum, count = torch.zeros((), device=trainer.device), 0
        wish = request()
        stopping = last or trainer.agree(wish == "stop" or (deadline is not None and time.monotonic() > deadline))
        if stopping or wish == "checkpoint" or trainer.step % settings.checkpoint_every == 0:
            if not trainer.is_finite():
                raise DivergedError(f"training collapsed: weights that are no numbers at step {trainer.step}")
            save(trainer, val_loss)
        if stopping:
            break
