"""No relaxation: strictly equivariant layers without branches. The control of every comparison."""

from typing import final

from conformergen.nn.relaxation.branch import BranchForm
from conformergen.nn.relaxation.interface import RelaxationMode, RelaxationSettings


@final
class NoRelaxation(RelaxationMode):
    """Nothing to set."""

    has_branches = False

    @staticmethod
    def form(settings: RelaxationSettings) -> BranchForm:
        """Never built."""
        del settings
        return BranchForm(beta=0.0)
