"""What COV and MAT do not show: stereo, physical plausibility, strain, rings, ensemble properties.

To add a check: a file here and a line below.
"""

from collections.abc import Mapping
from typing import Final

from conformergen.evaluation.checks import posebusters, properties, rings, stereo, strain
from conformergen.evaluation.checks.interface import Check, CheckSettings, CheckTable, run_check

#: Checks by name.
CHECKS: Final[Mapping[str, Check]] = {
    "stereo": stereo.CHECK,
    "posebusters": posebusters.CHECK,
    "strain": strain.CHECK,
    "rings": rings.CHECK,
    "properties": properties.CHECK,
}

__all__ = ["CHECKS", "Check", "CheckSettings", "CheckTable", "run_check"]
