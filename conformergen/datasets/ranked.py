"""Conformers with energies for the ranker."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from conformergen.records import ConformerSet


@dataclass(frozen=True, eq=False, kw_only=True)
class RankedSet:
    """Conformers of one molecule with the energies that the ranker learns.

    Attributes:
        conformers: Their ``energies`` are the target, kcal/mol.
        baseline: MMFF94s energies of the structures from which the conformers were made, kcal/mol.
    """

    conformers: ConformerSet
    baseline: Float64[np.ndarray, " conf"]
