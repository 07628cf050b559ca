"""Conformers with force-field energies: what the ranker reads."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from conformergen.records import ConformerSet


@dataclass(frozen=True, eq=False, kw_only=True)
class RankedSet:
    """Conformers of one molecule, their ``energies`` the target; MMFF94s energies of what they come from, kcal/mol."""

    conformers: ConformerSet
    baseline: Float64[np.ndarray, " conf"]
