"""Relaxed equivariance by multitask learning, after Elhag et al. 2024 (arXiv 2410.17878), from its equations.

An always open branch, and w times the loss of the same batch after one random rotation of each example. ``gradnorm``
weighs the two losses by the size of their gradients (Chen et al. 2018, arXiv 1711.02257): the weights descend
sum_i |w_i G_i - mean(w G) r_i^alpha|, r_i the relative inverse rate of training, and sum to 2.
"""

from collections.abc import Sequence
from typing import Final, final

import torch
from torch import Tensor

from conformergen.nn.relaxation.branch import BranchForm, RelaxedBranch
from conformergen.nn.relaxation.interface import RelaxationMode, RelaxationSettings, StepTerms

#: Exponent of the relative training rate (GradNorm's alpha; Chen et al. 2018, arXiv 1711.02257).
_EXPONENT: Final = 1.5
#: Step size of the weights.
_RATE: Final = 0.025
#: Lower bound of a weight.
_LEAST: Final = 1e-3
#: Column of the memory that contains the weight of the equivariance loss.
_WEIGHT: Final = 0
#: Columns of the memory that contain the two initial losses.
_FIRST: Final = slice(1, 3)


@final
class MultitaskRelaxation(RelaxationMode):
    """Remembers, in the first row of the first branch, the weight and the initial losses."""

    @staticmethod
    def form(settings: RelaxationSettings) -> BranchForm:
        """Projected branch without normalisation, fully open."""
        return BranchForm(kind="projected", beta=1.0, memory=(settings.remul_weight, 0.0, 0.0))

    def objective(self, loss: Tensor, terms: StepTerms) -> Tensor:
        """Task loss and weighted equivariance loss."""
        other = terms.rotated()
        if self.settings.remul_weighting == "fixed":
            return loss + self.settings.remul_weight * other
        memory = terms.branches[0].memory[0]
        weight = memory[_WEIGHT].clone()
        self._balance(memory, torch.stack([loss, other]), terms.branches)
        return (2.0 - weight) * loss + weight * other

    @staticmethod
    def _balance(memory: Tensor, losses: Tensor, branches: Sequence[RelaxedBranch]) -> None:
        """One descent step of the weights; their loss is differentiated by hand, in the weights only."""
        shared = list(branches[-1].blocks.parameters())
        norms = []
        for loss in losses:
            gradients = torch.autograd.grad(loss, shared, retain_graph=True)
            norms.append(torch.cat([g.flatten() for g in gradients]).norm())
        with torch.no_grad():
            if float(memory[_FIRST].sum()) == 0.0:
                memory[_FIRST] = losses.detach()
            pace = losses.detach() / memory[_FIRST].clamp(min=1e-12)
            pace = pace / pace.mean().clamp(min=1e-12)
            weights = torch.stack([2.0 - memory[_WEIGHT], memory[_WEIGHT]])
            sizes = torch.stack(norms)
            excess = torch.sign(weights * sizes - (weights * sizes).mean() * pace**_EXPONENT)
            weights = (weights - _RATE * excess * sizes).clamp(min=_LEAST)
            memory[_WEIGHT] = 2.0 * weights[1] / weights.sum()
