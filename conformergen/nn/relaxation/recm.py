"""Recurrent equivariant constraint modulation, RECM-style, after the abstract of arXiv 2602.02853.

The update rule is our completion: the body of that paper was not available when this was written. Once per
optimiser step, from sums over the whole batch,

    c_b = <delta, U_b x> / (|delta| |U_b x|),   h_b <- max((1 - lam) h_b + lam kappa c_b, 0),   beta_b = tanh h_b,

with delta = -dL/dy. U is a Haar complement, so c has mean exactly 0 when (x, delta) is jointly invariant. Proofs
and measured curves are in ``docs/relaxation.md``.
"""

import math
from typing import Final, final

import torch
from torch import Tensor

from conformergen.nn.relaxation.branch import BranchForm, RelaxedBranch
from conformergen.nn.relaxation.interface import RelaxationMode, RelaxationSettings, release_gradients

#: Bounds of the forgetting rate in one step.
_LAM_BOUNDS: Final = (1e-4, 5e-3)
#: Below this many steps a memory of 2 % of training is too short to average the signal.
_SHORT_RUN: Final = 4000
#: Forgetting rate of short runs.
_LAM_SHORT: Final = 1e-2


def rate(settings: RelaxationSettings, total_steps: int, step: int = 0) -> float:
    """Rate lam of the state: as set, or a memory of 2 % of training; falling under ``robbins_monro``."""
    if settings.lam > 0:
        lam = settings.lam
    elif total_steps < _SHORT_RUN:
        lam = _LAM_SHORT
    else:
        lam = min(max(1.0 / (0.02 * total_steps), _LAM_BOUNDS[0]), _LAM_BOUNDS[1])
    return lam / (1.0 + 4.0 * step / total_steps) ** 0.75 if settings.robbins_monro else lam


def next_state(h: Tensor, signal: Tensor, *, lam: float, kappa: float) -> Tensor:
    """H <- max((1 - lam) h + lam kappa c, 0)."""
    return ((1.0 - lam) * h + lam * kappa * signal).clamp(min=0.0)


@final
class RecurrentModulation(RelaxationMode):
    """Remembers h of each block; it travels in checkpoints with beta and the scales."""

    closes = True

    @staticmethod
    def form(settings: RelaxationSettings) -> BranchForm:
        """Unit branch at tanh(h0)."""
        return BranchForm(beta=math.tanh(settings.h0), memory=(settings.h0,), probe=settings.probe == "mlp")

    def update(self, branch: RelaxedBranch, sums: Tensor, *, step: int) -> None:
        """Advance h; branch gradients are released at the beta of the forward pass."""
        del sums
        release_gradients(branch)
        lam = rate(self.settings, self.total_steps, step)
        if branch.probe is not None:
            branch.probe.lam, branch.probe.kappa = lam, self.settings.kappa
            branch.beta.fill_(branch.probe.commit())
            branch.memory.copy_(torch.atanh(branch.beta.clamp(max=1 - 1e-6))[:, None])
        elif step >= self.settings.hold:
            h = next_state(branch.memory[:, 0], branch.cosine, lam=lam, kappa=self.settings.kappa)
            branch.memory[:, 0] = h
            branch.beta.copy_(torch.tanh(h))
