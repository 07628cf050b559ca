"""Relative GFN2-xTB energies of conformers: the network that ranks them."""

from dataclasses import replace
from typing import Final, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from conformergen.nn.headwise import HeadwiseNetwork
from conformergen.nn.interface import NetworkSettings
from conformergen.records.batch import GraphBatch

#: kcal/mol for an output of one: what a force field is off by.
_UNIT: Final = 3.0


@final
class EnergyNetwork(nn.Module):
    """Force-field energy plus a learned correction, a sum over atoms of invariant features.

    The difference to a physical baseline is smaller and smoother than the energy itself (delta learning, Ramakrishnan
    et al. 2015, doi 10.1021/acs.jctc.5b00099). Only differences between conformers of one molecule mean anything.
    """

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__()
        # A model may be taken as the start before its branches are closed; an energy is exactly invariant all the same.
        relaxation = replace(settings.relaxation, mode="none")
        self.settings = settings = replace(settings, torsions=False, relaxation=relaxation)
        self.trunk = HeadwiseNetwork(settings)
        # The trunk is read before its own readout, whose weights would stay without a gradient.
        del self.trunk.readout, self.trunk.readout_gate
        c = settings.channels
        self.readout = nn.Sequential(nn.LayerNorm(c), nn.Linear(c, c), nn.SiLU(), nn.Linear(c, 1))
        self.share = nn.Parameter(torch.tensor(0.5))

    def forward(
        self,
        graph: GraphBatch,
        positions: Float[Tensor, "batch atom 3"],
        baseline: Float[Tensor, " batch"],
    ) -> Float[Tensor, " batch"]:
        """Energy of each conformer, kcal/mol, up to a constant of the molecule.

        Args:
            graph: Padded graphs.
            positions: A model's samples, or the MMFF94s minima that it starts from, Å.
            baseline: MMFF94s energies of the latter, kcal/mol, relative to anything that is one for each molecule.
        """
        x, *_ = self.trunk.features(graph, positions, positions.new_zeros(len(positions)))
        correction = (self.readout(x)[..., 0] * graph.mask).sum(1)
        return self.share * baseline + _UNIT * correction
