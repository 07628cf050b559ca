"""No relaxation: strictly equivariant layers without branches. The control of every comparison."""

from collections.abc import Sequence
from typing import final

from conformergen.nn.relaxation.branch import RelaxedBranch
from conformergen.nn.relaxation.interface import RelaxationMode, RelaxationSettings


@final
class NoRelaxation(RelaxationMode):
    """Nothing to set."""

    has_branches = False

    @staticmethod
    def initial(settings: RelaxationSettings) -> tuple[float, float]:
        """Zero."""
        del settings
        return 0.0, 0.0

    def update(self, branches: Sequence[RelaxedBranch], *, step: int) -> None:
        """Nothing to do."""
        del branches, step
