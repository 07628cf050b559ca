"""Relaxation modes by name: how far each layer's symmetry constraint is loosened.

Nothing here lowers an energy; that is *refinement*. To add a mode: a file beside these and a line here.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from e3nn import o3

from conformergen.nn.relaxation.ace import AdaptiveConstrained
from conformergen.nn.relaxation.anneal import AnnealedRelaxation
from conformergen.nn.relaxation.branch import BranchForm, LinearBlock, ParityBlock, RelaxedBranch
from conformergen.nn.relaxation.fixed import FixedRelaxation
from conformergen.nn.relaxation.interface import (
    CLOSED_BETA,
    RelaxationMode,
    RelaxationSettings,
    StepTerms,
    collect_sums,
)
from conformergen.nn.relaxation.learned import LearnedRelaxation
from conformergen.nn.relaxation.none import NoRelaxation
from conformergen.nn.relaxation.projection import haar_mean
from conformergen.nn.relaxation.recm import RecurrentModulation
from conformergen.nn.relaxation.remul import MultitaskRelaxation
from conformergen.nn.relaxation.rpp import ResidualPathway

#: Relaxation modes by name.
RELAXATION_MODES: Final[Mapping[str, type[RelaxationMode]]] = {
    "none": NoRelaxation,
    "fixed": FixedRelaxation,
    "anneal": AnnealedRelaxation,
    "ace": AdaptiveConstrained,
    "remul": MultitaskRelaxation,
    "rpp": ResidualPathway,
    "learned": LearnedRelaxation,
    "recm": RecurrentModulation,
}

__all__ = [
    "CLOSED_BETA",
    "RELAXATION_MODES",
    "BranchForm",
    "LinearBlock",
    "ParityBlock",
    "RelaxationMode",
    "RelaxationSettings",
    "RelaxedBranch",
    "StepTerms",
    "collect_sums",
    "haar_mean",
    "make_branch",
]


def make_branch(
    settings: RelaxationSettings, entries: Sequence[o3.Irreps], *, index: int = 0, sources: Sequence[int] | None = None
) -> RelaxedBranch | None:
    """Branch of layer ``index``, or None where nothing is relaxed.

    Args:
        settings: Of the network.
        entries: Irreps of the layer's inputs and updates, one entry each.
        index: Of the layer.
        sources: Entries that are read; all by default.
    """
    mode = RELAXATION_MODES[settings.mode]
    if not mode.has_branches or index % settings.every:
        return None
    branch = RelaxedBranch(
        entries,
        sources=range(len(entries)) if sources is None else sources,
        rank=settings.rank,
        form=mode.form(settings),
        group=settings.group,
        keep_inversion=settings.keep_inversion,
    )
    return branch if len(branch.blocks) else None
