"""The torsion search: a learned draw of torsions, restrained minimisation, and conformers with fixed parts."""

from conformergen.torsion.model import TorsionModelFile
from conformergen.torsion.restraints import (
    DRAWN_RESTRAINT,
    FREE,
    RestrainedTorsions,
    TorsionRestraint,
    minimise_restrained,
)
from conformergen.torsion.search import TorsionSearchSettings, lowest_unique, torsion_minima

__all__ = [
    "DRAWN_RESTRAINT",
    "FREE",
    "RestrainedTorsions",
    "TorsionModelFile",
    "TorsionRestraint",
    "TorsionSearchSettings",
    "lowest_unique",
    "minimise_restrained",
    "torsion_minima",
]
