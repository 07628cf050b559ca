"""One constant level for every block; it cannot switch itself off before ``close_at``."""

from typing import final

from conformergen.nn.relaxation.branch import BranchForm
from conformergen.nn.relaxation.interface import RelaxationMode, RelaxationSettings


@final
class FixedRelaxation(RelaxationMode):
    """Nothing to remember."""

    closes = True

    @staticmethod
    def form(settings: RelaxationSettings) -> BranchForm:
        """Unit branch at the set level."""
        return BranchForm(beta=settings.level)
