"""What a relaxation mode is: the rule that sets the level beta of every relaxed block."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

import torch
from torch import Tensor, nn

from conformergen.errors import InputError
from conformergen.nn.relaxation.branch import BranchForm, RelaxedBranch
from conformergen.nn.relaxation.projection import GROUPS

#: Branch gradients are divided by max(beta, floor): the branch learns as if beta = 1 and can reopen.
GRADIENT_FLOOR: Final = 1e-3
#: Largest level at which a branch may be dropped: beyond it the network that remains is another one.
CLOSED_BETA: Final = 1e-2
#: Ways of measuring what a block would gain by being open.
PROBES: Final = ("grad", "mlp")
#: Constraints of the mode ``ace``.
CONSTRAINTS: Final = ("equality", "resilient")
#: Weightings of the mode ``remul``.
WEIGHTINGS: Final = ("fixed", "gradnorm")


@dataclass(frozen=True, kw_only=True)
class RelaxationSettings:
    """How symmetry constraints are loosened.

    Attributes:
        mode: Entry of ``RELAXATION_MODES``.
        rank: Rank of each block; 0 for dense blocks.
        every: Relax every n-th layer.
        group: ``so3``, or ``o3`` to add blocks between irreps of one l and different parity.
        keep_inversion: Build only blocks that commute with inversion.
        close_at: Share of the training after which the levels of ``fixed``, ``learned`` and ``recm`` are 0, so
            that the equivariant maps settle; 1 where the data break the symmetry.
        h0: Initial state of ``recm``.
        kappa: Gain of ``recm``.
        lam: Rate of ``recm``; 0 derives it from the number of steps (memory of 2 % of training).
        hold: Steps during which ``recm`` keeps h0.
        robbins_monro: Let the rate of ``recm`` fall, so that h converges instead of hovering.
        probe: Signal of ``recm``: ``grad``, or ``mlp`` (a learned probe).
        level: Level of ``fixed``.
        anneal_penalty: Weight of the penalties of ``anneal``.
        ace_constraint: ``equality`` or ``resilient``.
        ace_rate: Step of the levels of ``ace``.
        ace_dual_rate: Step of its multipliers.
        remul_weighting: ``fixed`` or ``gradnorm``.
        remul_weight: Weight of the equivariance loss of ``remul``.
        rpp_residual: Weight of the squared branch weights of ``rpp``.
        rpp_equivariant: Weight of the squared equivariant weights.
    """

    mode: str = "recm"
    rank: int = 32
    every: int = 1
    group: str = "so3"
    keep_inversion: bool = False
    close_at: float = 0.9
    h0: float = 0.2
    kappa: float = 4.0
    lam: float = 0.0
    hold: int = 0
    robbins_monro: bool = False
    probe: str = "grad"
    level: float = 0.1
    anneal_penalty: float = 0.01
    ace_constraint: str = "equality"
    ace_rate: float = 0.01
    ace_dual_rate: float = 1e-3
    remul_weighting: str = "fixed"
    remul_weight: float = 1.0
    rpp_residual: float = 1e-2
    rpp_equivariant: float = 1e-4

    def __post_init__(self) -> None:
        if self.rank < 0 or self.every < 1 or self.hold < 0:
            raise InputError("relaxation: rank >= 0, every >= 1 and hold >= 0 are required")
        if self.h0 < 0 or self.kappa <= 0 or not 0 <= self.lam < 1 or not 0 < self.close_at <= 1:
            raise InputError("relaxation: h0 >= 0, kappa > 0, 0 <= lam < 1 and 0 < close_at <= 1 are required")
        for name, known in (
            ("group", GROUPS),
            ("probe", PROBES),
            ("ace_constraint", CONSTRAINTS),
            ("remul_weighting", WEIGHTINGS),
        ):
            if getattr(self, name) not in known:
                raise InputError(f"relaxation.{name} {getattr(self, name)!r} is not one of {', '.join(known)}")


@dataclass(frozen=True, kw_only=True)
class StepTerms:
    """What a mode may add to the loss of one batch.

    Attributes:
        branches: Relaxed branches in depth order, after the forward pass.
        core: Parameters outside the branches.
        rotated: Loss of the same batch after one more random rotation of each example, inputs and targets together.
    """

    branches: Sequence[RelaxedBranch]
    core: Sequence[nn.Parameter]
    rotated: Callable[[], Tensor]


class RelaxationMode(ABC):
    """Sets the levels of all branches of one network; its state lives in the branches' buffers."""

    #: Whether networks of this mode have branches at all.
    has_branches: ClassVar[bool] = True
    #: Whether levels are set to 0 at ``close_at``.
    closes: ClassVar[bool] = False

    def __init__(self, settings: RelaxationSettings, *, total_steps: int) -> None:
        self.settings = settings
        self.total_steps = total_steps

    @staticmethod
    @abstractmethod
    def form(settings: RelaxationSettings) -> BranchForm:
        """Form of the branch at step 0."""

    def objective(self, loss: Tensor, terms: StepTerms) -> Tensor:
        """Loss to differentiate: the task's and the mode's own terms."""
        del terms
        return loss

    @torch.no_grad()
    def advance(self, branches: Sequence[RelaxedBranch], sums: Sequence[Tensor], *, step: int) -> None:
        """Set the levels, once per optimiser step, after the backward pass and before the optimiser's step.

        Args:
            branches: All branches.
            sums: Their sums over the whole global batch, from ``collect_sums``.
            step: Steps taken before this one.
        """
        if self.closes and step >= self.settings.close_at * self.total_steps:
            for branch in branches:
                branch.beta.zero_()
                branch.closed = True
                branch.beta.grad = None  # a trained level gets no step, not even of its momentum
            return
        for branch, of_branch in zip(branches, sums, strict=True):
            du, dd, uu, _ = of_branch.unbind(1)
            branch.cosine.copy_(du / ((dd * uu).sqrt() + 1e-12))
            if branch.form.kind == "unit":
                branch.follow_scale(of_branch)
            self.update(branch, of_branch, step=step)

    def update(self, branch: RelaxedBranch, sums: Tensor, *, step: int) -> None:
        """Set the levels of one branch; the default leaves them."""
        del branch, sums, step


@torch.no_grad()
def collect_sums(branches: Sequence[RelaxedBranch]) -> list[Tensor]:
    """Sums of all branches over all processes, in one reduction; the branches' own are cleared."""
    if not branches:
        return []
    joined = torch.cat([b.sums for b in branches])
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(joined)
    for branch in branches:
        branch.sums.zero_()
    return list(joined.split([len(b.sums) for b in branches]))


def release_gradients(branch: RelaxedBranch) -> None:
    """Divide each block's gradients by its own beta, so that a closing branch goes on learning."""
    for beta, block in zip(branch.beta, branch.blocks, strict=True):
        factor = 1.0 / beta.clamp(min=GRADIENT_FLOOR)
        for parameter in block.parameters():
            if parameter.grad is not None:
                parameter.grad.mul_(factor)
