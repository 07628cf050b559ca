"""What a relaxation mode is: the rule that sets the level beta of every relaxed block."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch

from conformergen.errors import InputError
from conformergen.nn.relaxation.branch import RelaxedBranch

#: Branch gradients are divided by max(beta, floor): the branch learns as if beta = 1 and can reopen.
GRADIENT_FLOOR: Final = 1e-3


@dataclass(frozen=True, kw_only=True)
class RelaxationSettings:
    """How symmetry constraints are loosened.

    Attributes:
        mode: Entry of ``RELAXATION_MODES``.
        rank: Rank of each block.
        every: Relax every n-th layer.
        h0: Initial state of ``recm``.
        kappa: Gain of ``recm``.
        lam: Rate of ``recm``; 0 derives it from the number of steps (memory of 2 % of training).
        close_at: Share of the training after which every level is 0, so that the equivariant maps settle.
    """

    mode: str = "recm"
    rank: int = 32
    every: int = 1
    h0: float = 0.2
    kappa: float = 4.0
    lam: float = 0.0
    close_at: float = 0.9

    def __post_init__(self) -> None:
        if self.rank < 1 or self.every < 1:
            raise InputError("relaxation.rank and relaxation.every must be at least 1")
        if self.h0 < 0 or self.kappa <= 0 or not 0 <= self.lam < 1 or not 0 < self.close_at <= 1:
            raise InputError("relaxation: h0 >= 0, kappa > 0, 0 <= lam < 1 and 0 < close_at <= 1 are required")


class RelaxationMode(ABC):
    """Sets the levels of all branches of one network; its state lives in the branches' buffers."""

    #: Whether networks of this mode have branches at all.
    has_branches: bool = True

    def __init__(self, settings: RelaxationSettings, *, total_steps: int) -> None:
        self.settings = settings
        self.total_steps = total_steps

    @staticmethod
    @abstractmethod
    def initial(settings: RelaxationSettings) -> tuple[float, float]:
        """State and level of every block at step 0."""

    @abstractmethod
    def update(self, branches: Sequence[RelaxedBranch], *, step: int) -> None:
        """Set the levels once per optimiser step, after the backward pass; clears the sums."""


def release_gradients(branches: Sequence[RelaxedBranch]) -> None:
    """Divide each block's gradients by its own beta, so that a closing branch goes on learning."""
    for branch in branches:
        for beta, complement in zip(branch.beta, branch.complements, strict=True):
            factor = 1.0 / beta.clamp(min=GRADIENT_FLOOR)
            for parameter in complement.parameters():
                if parameter.grad is not None:
                    parameter.grad.mul_(factor)


@torch.no_grad()
def close(branches: Sequence[RelaxedBranch]) -> None:
    """Set every level to 0."""
    for branch in branches:
        branch.beta.zero_()
