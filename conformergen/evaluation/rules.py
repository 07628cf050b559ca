"""Rules by which published evaluators differ: what counts in a score. To add one: a function and a line."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Float64

from conformergen.evaluation.scoring import Score

Matrix = Float64[np.ndarray, "ref gen"]


def _all(score: Score) -> Matrix:
    """Every clean reference and every sample."""
    return score.rmsd


def _succeeded(score: Score) -> Matrix | None:
    """Molecules with samples only."""
    return score.rmsd if score.rmsd.shape[1] else None


def _geodiff(score: Score) -> Matrix | None:
    """Rule of GeoDiff: the first 2K samples; molecules with fewer are skipped, and K counts all references."""
    wanted = 2 * (score.rmsd.shape[0] + score.n_dropped_references)
    return score.rmsd[:, :wanted] if score.rmsd.shape[1] >= wanted else None


def _stereo_strict(score: Score) -> Matrix | None:
    """References of another stereoisomer are left out; a sample of wrong stereo covers nothing and is not covered."""
    if not score.reference_stereo.any():
        return None
    rmsd = score.rmsd[score.reference_stereo].copy()
    rmsd[:, ~score.sample_stereo] = np.inf
    return rmsd


@dataclass(frozen=True, kw_only=True)
class Rule:
    """How molecules enter the averages.

    Attributes:
        view: RMSD matrix that counts, or None for a molecule that is left out.
        inclusive: Cover at ``<=`` the threshold instead of ``<``.
    """

    view: Callable[[Score], Matrix | None]
    inclusive: bool = False

    def threshold(self, value: float) -> float:
        """Threshold for a strict comparison."""
        return float(np.nextafter(value, np.inf)) if self.inclusive else value


#: Rules by name.
RULES: Final[Mapping[str, Rule]] = {
    "rows": Rule(view=_all),
    "succeeded_only": Rule(view=_succeeded),
    "geodiff": Rule(view=_geodiff, inclusive=True),
    "stereo_strict": Rule(view=_stereo_strict),
}
