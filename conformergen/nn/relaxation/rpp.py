"""Residual pathway priors, after Finzi, Benton, Wilson 2021 (arXiv 2112.01388), written from its equations.

A branch of small, unconstrained weights beside the equivariant map, under Gaussian priors of different width:
a true squared penalty in the loss, ``rpp_residual`` sum W^2 + ``rpp_equivariant`` sum of f's weights^2.
"""

from typing import final

import torch
from torch import Tensor

from conformergen.nn.relaxation.branch import BranchForm
from conformergen.nn.relaxation.interface import RelaxationMode, RelaxationSettings, StepTerms


@final
class ResidualPathway(RelaxationMode):
    """The ratio of the two weights is an implicit fixed target; nothing is remembered."""

    @staticmethod
    def form(settings: RelaxationSettings) -> BranchForm:
        """Raw branch at a thousandth of f's scale."""
        del settings
        return BranchForm(kind="raw", beta=1.0, weight_scale=1e-3)

    def objective(self, loss: Tensor, terms: StepTerms) -> Tensor:
        """Task loss and the two priors."""
        residual = torch.stack([branch.squared_norm() for branch in terms.branches]).sum()
        equivariant = torch.stack([p.square().sum() for p in terms.core]).sum()
        return loss + self.settings.rpp_residual * residual + self.settings.rpp_equivariant * equivariant
