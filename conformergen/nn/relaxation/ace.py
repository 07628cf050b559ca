"""Adaptive constrained equivariance, after Manolache, Chamon, Niepert 2025 (arXiv 2505.13631), from its equations.

Levels gamma are primal variables of min J subject to gamma = 0 (``equality``) or |gamma| <= u (``resilient``):

    equality:  gamma -= eta (dJ/dgamma + lambda),               lambda += eta_d gamma
    resilient: gamma -= eta (dJ/dgamma + lambda sign gamma),    lambda = max(lambda + eta_d (|gamma| - u), 0),
               u -= eta (u - lambda), the descent of u^2/2 - lambda u.

dJ/dgamma = -s <delta, U x> comes from the branch's sums.
"""

from typing import final

import torch
from torch import Tensor

from conformergen.nn.relaxation.branch import BranchForm, RelaxedBranch
from conformergen.nn.relaxation.interface import RelaxationMode, RelaxationSettings


@final
class AdaptiveConstrained(RelaxationMode):
    """Remembers lambda and, in its second column, u."""

    @staticmethod
    def form(settings: RelaxationSettings) -> BranchForm:
        """Unit branch, fully open; multipliers and resilience start at 0."""
        del settings
        return BranchForm(beta=1.0, memory=(0.0, 0.0))

    def update(self, branch: RelaxedBranch, sums: Tensor, *, step: int) -> None:
        """One primal and one dual step."""
        del step
        rate, dual_rate = self.settings.ace_rate, self.settings.ace_dual_rate
        gamma, (multiplier, resilience) = branch.beta, branch.memory.unbind(1)
        gradient = -branch.scale * sums[:, 0]
        if self.settings.ace_constraint == "equality":
            gamma.sub_(rate * (gradient + multiplier))
            multiplier.add_(dual_rate * gamma)
            return
        gamma.sub_(rate * (gradient + multiplier * torch.sign(gamma)))
        resilience.sub_(rate * (resilience - multiplier))
        multiplier.add_(dual_rate * (gamma.abs() - resilience)).clamp_(min=0.0)
