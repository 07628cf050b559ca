"""Annealed relaxation, after Pertigkiozoglou et al. 2024 (arXiv 2408.13242), written from its equations.

The level rises from 0 to 1 and falls back: 2t/T, then 2 - 2t/T. The branch is W itself, kept small by

    penalty * (sqrt R_lie + sqrt R_norm),  R_lie = sum_k |W A_k x - A_k W x|^2,  R_norm = |W x|^2,

with the generators A_k of rotations and x detached; both are means over nodes and features here.
"""

from typing import final

import torch
from e3nn import o3
from torch import Tensor

from conformergen.nn.relaxation.branch import BranchForm, RelaxedBranch
from conformergen.nn.relaxation.interface import RelaxationMode, RelaxationSettings, StepTerms

#: Added before square roots to keep their gradients finite.
_EPSILON = 1e-12


@final
class AnnealedRelaxation(RelaxationMode):
    """Triangle of levels and the two penalties."""

    def __init__(self, settings: RelaxationSettings, *, total_steps: int) -> None:
        super().__init__(settings, total_steps=total_steps)
        self._generators: dict[int, Tensor] = {}

    @staticmethod
    def form(settings: RelaxationSettings) -> BranchForm:
        """Raw branch that starts near zero."""
        del settings
        return BranchForm(kind="raw", beta=0.0, weight_scale=1e-4, keeps_inputs=True)

    def objective(self, loss: Tensor, terms: StepTerms) -> Tensor:
        """Add the penalties of every branch."""
        weight = self.settings.anneal_penalty
        return loss + weight * torch.stack([self._penalty(branch) for branch in terms.branches]).sum()

    def _rotate_infinitesimally(self, z: Tensor) -> list[Tensor]:
        """A_k z for the three generators; z is (..., 2l+1, channel)."""
        dim = z.shape[-2]
        if dim not in self._generators:
            self._generators[dim] = o3.so3_generators((dim - 1) // 2)
        return [g.to(z) @ z for g in self._generators[dim]]

    def _penalty(self, branch: RelaxedBranch) -> Tensor:
        lie = size = branch.beta.new_zeros(())
        for (source, _), block in zip(branch.ends, branch.blocks, strict=True):
            z = branch.inputs[source]
            out = block(z)
            size = size + out.square().mean()
            for rotated_in, rotated_out in zip(
                self._rotate_infinitesimally(z), self._rotate_infinitesimally(out), strict=True
            ):
                lie = lie + (block(rotated_in) - rotated_out).square().mean()
        return (lie + _EPSILON).sqrt() + (size + _EPSILON).sqrt()

    def update(self, branch: RelaxedBranch, sums: Tensor, *, step: int) -> None:
        """Follow the triangle; the level of the next step."""
        del sums
        progress = (step + 1) / self.total_steps
        branch.beta.fill_(max(0.0, 2 * progress if progress < 0.5 else 2 - 2 * progress))
