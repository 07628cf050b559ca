"""What a score does not see: stereo, physical plausibility, strain, rings, ensemble properties.

To add a check: a file beside these and a line here.
"""

from collections.abc import Mapping
from typing import Final

from conformergen.workflows.checks import posebusters, properties, rings, stereo, strain
from conformergen.workflows.checks.interface import Check, CheckSettings, run_check

CHECKS: Final[Mapping[str, Check]] = {
    "stereo": stereo.CHECK,
    "posebusters": posebusters.CHECK,
    "strain": strain.CHECK,
    "rings": rings.CHECK,
    "properties": properties.CHECK,
}

__all__ = ["CHECKS", "Check", "CheckSettings", "run_check"]
