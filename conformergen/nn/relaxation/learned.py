"""Levels trained by the task's gradient like any weight, without decay: the plain rival of ``recm``."""

from typing import Final, final

from conformergen.nn.relaxation.branch import BranchForm
from conformergen.nn.relaxation.interface import RelaxationMode, RelaxationSettings

#: Initial beta.
_INITIAL: Final = 0.2


@final
class LearnedRelaxation(RelaxationMode):
    """The levels are parameters; the optimiser does the rest."""

    closes = True

    @staticmethod
    def form(settings: RelaxationSettings) -> BranchForm:
        """Unit branch whose level is a parameter."""
        del settings
        return BranchForm(beta=_INITIAL, trained_level=True)
