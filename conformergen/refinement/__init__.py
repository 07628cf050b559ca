"""Refiners by name: lower a conformer's energy. To add one: a file beside these and a line here."""

from collections.abc import Mapping
from typing import Final

from conformergen.refinement import gfn2, gfnff, identity, mmff, uff
from conformergen.refinement.interface import Refiner

#: Refiners by name.
REFINERS: Final[Mapping[str, Refiner]] = {
    "none": identity.refine,
    "mmff94s": mmff.refine,
    "uff": uff.refine,
    "gfn-ff": gfnff.refine,
    "gfn2-xtb": gfn2.refine,
}

__all__ = ["REFINERS", "Refiner"]
