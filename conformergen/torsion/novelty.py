"""The one rule that decides whether a set of torsions is new."""

from typing import Final

import numpy as np
from jaxtyping import Float64, Int64

#: Two sets of torsions differ when some torsion differs by more than this many degrees. A third of the distance between
#: the staggered forms of a single bond: nearer starts mostly lead to one minimum.
MIN_DIFFERENCE: Final = 30.0


def is_new(
    torsions: Float64[np.ndarray, " torsion"],
    known: Float64[np.ndarray, "known torsion"],
    periods: Float64[np.ndarray, " torsion"],
    *,
    mirrored: bool,
) -> bool:
    """Whether some torsion differs from each known set by more than ``MIN_DIFFERENCE``.

    Args:
        torsions: Degrees.
        known: Sets found before, degrees.
        periods: Degrees after which each bond looks the same (``chem.torsion_periods``).
        mirrored: Compare with the mirror image of the torsions too, as for achiral molecules.
    """
    images = [torsions, -torsions] if mirrored else [torsions]
    for image in images:
        difference = np.abs((known - image + periods / 2) % periods - periods / 2).max(axis=1)
        if not (difference > MIN_DIFFERENCE).all():
            return False
    return True


def select_diverse(
    degrees: Float64[np.ndarray, "draw torsion"], periods: Float64[np.ndarray, " torsion"], n: int, *, mirrored: bool
) -> Int64[np.ndarray, " selected"]:
    """Indices of up to ``n`` draws, each of which is new beside those selected before it."""
    selected: list[int] = []
    for index, torsions in enumerate(degrees):
        if is_new(torsions, degrees[selected], periods, mirrored=mirrored):
            selected.append(index)
        if len(selected) == n:
            break
    return np.array(selected, dtype=np.int64)
