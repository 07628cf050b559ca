"""Recurrent equivariant constraint modulation, RECM-style, after the abstract of arXiv 2602.02853.

The update rule is our completion: the body of that paper was not available when this was written. Once per
optimiser step, from sums over the whole batch,

    c_b = <delta, U_b x> / (|delta| |U_b x|),   h_b <- max((1 - lam) h_b + lam kappa c_b, 0),   beta_b = tanh h_b,

with delta = -dL/dy. U is a Haar complement, so c has mean exactly 0 when (x, delta) is jointly invariant.
"""

import math
from collections.abc import Sequence
from typing import Final, final

import torch

from conformergen.nn.relaxation.branch import SCALE_BOUNDS, SCALE_FLOOR, TINY, RelaxedBranch
from conformergen.nn.relaxation.interface import RelaxationMode, RelaxationSettings, close, release_gradients

_SCALE_RATE: Final = 0.01
_LAM_BOUNDS: Final = (1e-4, 5e-3)
#: Below this many steps a memory of 2 % of training is too short to average the signal.
_SHORT_RUN: Final = 4000
_LAM_SHORT: Final = 1e-2


def rate(settings: RelaxationSettings, total_steps: int) -> float:
    """Rate lam of the state: as set, or a memory of 2 % of training."""
    if settings.lam > 0:
        return settings.lam
    if total_steps < _SHORT_RUN:
        return _LAM_SHORT
    return min(max(1.0 / (0.02 * total_steps), _LAM_BOUNDS[0]), _LAM_BOUNDS[1])


@final
class RecurrentModulation(RelaxationMode):
    """The recurrent state h is each branch's ``state``; it travels in checkpoints with beta and the scales."""

    @staticmethod
    def initial(settings: RelaxationSettings) -> tuple[float, float]:
        """State h0 and level tanh(h0)."""
        return settings.h0, math.tanh(settings.h0)

    @torch.no_grad()
    def update(self, branches: Sequence[RelaxedBranch], *, step: int) -> None:
        """Advance h and the scales; steps with non-finite sums change nothing."""
        lam = rate(self.settings, self.total_steps)
        if step >= self.settings.close_at * self.total_steps:
            close(branches)
            for branch in branches:
                branch.sums.zero_()
            return
        release_gradients(branches)
        for branch in branches:
            du, dd, uu, ff = branch.sums.unbind(1)
            if torch.isfinite(branch.sums).all():
                c = du / ((dd * uu).sqrt() + TINY)
                branch.state.mul_(1 - lam).add_(lam * self.settings.kappa * c).clamp_(min=0.0)
                branch.beta.copy_(torch.tanh(branch.state))
                ratio = (ff / uu.clamp(min=TINY)).sqrt().clamp(*SCALE_BOUNDS)
                usable = (uu > SCALE_FLOOR**2) & (ff > 0)
                first = usable & (branch.scale_set == 0)
                moved = branch.scale + _SCALE_RATE * (ratio - branch.scale)
                branch.scale.copy_(torch.where(first, ratio, torch.where(usable, moved, branch.scale)))
                branch.scale_set.copy_(torch.maximum(branch.scale_set, usable.float()))
            branch.sums.zero_()
