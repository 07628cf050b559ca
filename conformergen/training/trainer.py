"""One optimiser step of the denoiser, and the state that a checkpoint must hold.

Every step is a pure function of the state: the order of the batches depends on (seed, epoch, cursor), noise and
rotations on (seed, step). So a resumed run repeats the uninterrupted one bit for bit on the CPU.
"""

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from conformergen.datasets.loader import PlannedBatch, TrainingBatch, TrainingSet
from conformergen.diffusion import LOSSES, PRIORS, DiffusionSettings, denoise
from conformergen.errors import DivergedError
from conformergen.geometry.rotations import centre, haar_rotations
from conformergen.nn import RELAXATION_MODES, Backbone, make_backbone
from conformergen.nn.relaxation import StepTerms, collect_sums
from conformergen.records.batch import GraphBatch
from conformergen.training.settings import TrainingSettings

#: More skipped steps than this among the newest ``_COLLAPSE_SPAN`` steps are a numerical collapse.
_MAX_SKIPS: Final = 5
#: Number of steps over which skipped steps are counted.
_COLLAPSE_SPAN: Final = 100


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class NoisedBatch:
    """Noisy and clean positions in one frame (Å), and the noise level of each graph."""

    graph: GraphBatch
    x: Float[Tensor, "batch atom 3"]
    data: Float[Tensor, "batch atom 3"]
    noise_level: Float[Tensor, " batch"]

    def rotated(self, quaternions: Float[Tensor, "batch 4"]) -> "NoisedBatch":
        """The same batch after a Haar rotation of each graph."""
        rotation = haar_rotations(quaternions).mT
        return replace(self, x=self.x @ rotation, data=self.data @ rotation)


class Trainer:
    """Network, averaged network, optimiser, relaxation, and position in the data."""

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
        # Buffers (states, betas and scales of the branches) are copied by AveragedModel, not averaged.
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
        #: Steps that were skipped, of the newest ``_COLLAPSE_SPAN`` steps.
        self.recent_skips: list[int] = []
        #: Factor on the learning rate; below 1 after a collapse.
        self.lr_factor = 1.0

    def rng(self, purpose: str) -> torch.Generator:
        """Generator of one step and purpose."""
        digest = hashlib.sha256(f"{self.settings.seed}|{self.step}|{purpose}".encode()).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest[:7], "little"))

    def agree(self, flag: bool) -> bool:  # noqa: FBT001  a vote, not an option
        """Whether the flag is set in any process."""
        if self.n_ranks == 1:
            return flag
        vote = torch.tensor(float(flag), device=self.device)
        torch.distributed.all_reduce(vote, op=torch.distributed.ReduceOp.MAX)
        return bool(vote)

    def learning_rate(self) -> float:
        """Learning rate of the next step: linear warm-up, then a cosine to 0; halved after a collapse."""
        s = self.settings
        return s.learning_rate * self.lr_factor * cosine_rate(self.step, warmup=s.warmup, steps=s.steps)

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
            DivergedError: When too many recent steps had a non-finite gradient.
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
                averaged.beta.data.copy_(ours.beta)  # beta is a setting of the network, not a weight to average
        else:
            self._skip(planned)
        self.step += 1
        return total, norm

    def _skip(self, planned: list[PlannedBatch]) -> None:
        self.n_skipped += 1
        self.recent_skips = [*(s for s in self.recent_skips if s > self.step - _COLLAPSE_SPAN), self.step]
        if len(self.recent_skips) > _MAX_SKIPS:
            molecules = sorted({molecule for _, _, examples in planned for molecule, _ in examples})
            raise DivergedError(
                f"training collapsed: steps {self.recent_skips} had a non-finite gradient; the last one saw the "
                f"training molecules {molecules}"
            )

    def progress(self) -> dict[str, int | float | list[int]]:
        """Counters that a checkpoint stores."""
        return {
            "step": self.step,
            "epoch": self.epoch,
            "cursor": self.cursor,
            "n_skipped": self.n_skipped,
            "recent_skips": self.recent_skips,
            "lr_factor": self.lr_factor,
        }

    def set_progress(
        self,
        *,
        step: int,
        epoch: int,
        cursor: int,
        n_skipped: int,
        recent_skips: Sequence[int] = (),
        lr_factor: float = 1.0,
    ) -> None:
        """Restore the counters of a checkpoint."""
        self.step, self.epoch, self.cursor = step, epoch, cursor
        self.n_skipped, self.recent_skips, self.lr_factor = n_skipped, list(recent_skips), lr_factor

    def is_finite(self) -> bool:
        """Whether every weight is finite; only such a state is saved."""
        return all(bool(torch.isfinite(p).all()) for p in self.network.parameters())

    def _terms(self, noised: NoisedBatch, rng: torch.Generator, n_graphs: int) -> StepTerms:
        def rotated() -> Tensor:
            quaternions = torch.randn(len(noised.x), 4, generator=rng).to(self.device)
            return self.loss(self.network, noised.rotated(quaternions)).sum() / n_graphs

        return StepTerms(branches=self.branches, core=self.core, rotated=rotated)

    def _reduce_gradients(self, total: Tensor) -> None:
        """Sum gradients and loss over all processes in one reduction; they are divided by the global count before."""
        if self.n_ranks == 1:
            return
        gradients = [p.grad for p in self.network.parameters() if p.grad is not None]
        joined = torch.cat([total.view(1), *[g.flatten() for g in gradients]])
        torch.distributed.all_reduce(joined)
        total.copy_(joined[0])
        for gradient, part in zip(gradients, joined[1:].split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))

    def draw(self, batch: TrainingBatch, rng: torch.Generator) -> NoisedBatch:
        """Add noise of a random level to each graph, after a random rotation of each molecule."""
        size = len(batch.data)
        uniform = torch.rand(size, generator=rng).to(self.device)
        normal = torch.randn(batch.data.shape, generator=rng).to(self.device)
        quaternions = torch.randn(size, 4, generator=rng).to(self.device)
        data = centre(batch.data, batch.graph)
        starts = None if batch.starts is None else centre(batch.starts, batch.graph)
        if self.settings.rotate:
            rotation = haar_rotations(quaternions)
            data = data @ rotation.mT
            starts = None if starts is None else starts @ rotation.mT
        anchor, noise = PRIORS[self.diffusion.prior](batch.graph, normal, starts)
        noise_level = self.path.draw(uniform)
        return NoisedBatch(
            graph=batch.graph, x=self.path.mix(anchor, noise, data, noise_level), data=data, noise_level=noise_level
        )

    def loss(self, network: nn.Module, noised: NoisedBatch) -> Float[Tensor, " batch"]:
        """Loss of each graph."""
        denoised = denoise(network, self.path, noised.graph, noised.x, noised.noise_level)
        weight = self.path.weight(noised.noise_level)
        return LOSSES[self.diffusion.loss](denoised.float(), noised.data, noised.graph, weight)

    @torch.no_grad()
    def validation_loss(self, data: TrainingSet, *, relaxed: bool) -> float:
        """Loss of the averaged weights on a fixed draw of noise; at beta = 0 unless ``relaxed``."""
        network = self.averaged.eval()
        rng = torch.Generator().manual_seed(self.settings.seed)
        total, count = 0.0, 0
        with nullcontext() if relaxed else with_beta_zero(network):
            for examples in data.plan(self.settings.seed, 0):
                losses = self.loss(network, self.draw(data.collate(examples).to(self.device), rng))
                total, count = total + float(losses.sum()), count + len(losses)
        return total / count

    def max_beta(self) -> float:
        """Largest absolute beta of all blocks."""
        return max((b.max_level for b in self.branches), default=0.0)


def cosine_rate(step: int, *, warmup: int, steps: int) -> float:
    """Fraction of the peak learning rate: a linear warm-up, then a cosine to 0."""
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
def with_beta_zero(network: Backbone) -> Iterator[None]:
    """Run a network with every beta at 0, and restore the betas."""
    branches = network.branches()
    saved = [b.beta.detach().clone() for b in branches]
    for branch in branches:
        branch.beta.data.zero_()
    try:
        yield
    finally:
        for branch, beta in zip(branches, saved, strict=True):
            branch.beta.data.copy_(beta)
