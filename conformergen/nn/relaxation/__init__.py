"""Relaxation modes by name: how far each layer's symmetry constraint is loosened.

Nothing here lowers an energy; that is *refinement*. To add a mode: a file beside these and a line here.
"""

from collections.abc import Mapping
from typing import Final

from conformergen.nn.relaxation.branch import HaarComplement, RelaxedBranch
from conformergen.nn.relaxation.interface import RelaxationMode, RelaxationSettings
from conformergen.nn.relaxation.none import NoRelaxation
from conformergen.nn.relaxation.recm import RecurrentModulation

RELAXATION_MODES: Final[Mapping[str, type[RelaxationMode]]] = {
    "none": NoRelaxation,
    "recm": RecurrentModulation,
}

__all__ = ["RELAXATION_MODES", "HaarComplement", "RelaxationMode", "RelaxationSettings", "RelaxedBranch"]
