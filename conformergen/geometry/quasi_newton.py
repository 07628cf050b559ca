"""Minimisation that knows a molecule's stiff directions from its bond graph.

BFGS on the inverse Hessian (Nocedal, Wright 2006, eq. 6.17). It starts from that of springs between near atoms of the
graph instead of the unit matrix, in the manner of model Hessians (Lindh et al. 1995, doi 10.1016/0009-2614(95)00646-L).
"""

from collections.abc import Callable
from math import isfinite
from typing import Final

import numpy as np
from jaxtyping import Float64, UInt8
from scipy.linalg.blas import dsymv, dsyr2
from scipy.linalg.lapack import dpotrf, dpotri

#: Springs along the distance of atoms one, two and three bonds apart, kcal/mol/Å².
_ALONG: Final = (700.0, 120.0, 10.0)
#: Springs in any direction between the same atoms, kcal/mol/Å²; they stiffen planes, which distances do not.
_ANY: Final = (40.0, 10.0, 2.5)
#: Spring of each coordinate by itself, kcal/mol/Å².
_FLOOR: Final = 5.0
#: Longest move of an atom in a step, Å.
_REACH: Final = 0.4
#: Root mean square gradient at which a minimum is reached, kcal/mol/Å.
_GRADIENT: Final = 0.05
#: Number of successive small gains after which the minimisation ends.
_SLOW: Final = 3
#: A smaller gain of energy in one step counts as small, kcal/mol.
_GAIN: Final = 5e-4
#: Largest number of lengths that are tried for one step.
_TRIALS: Final = 4
#: Smallest ratio of the length of a trial to that of the one before.
_SHORTEST: Final = 0.1
#: Lower bound of denominators, relative to their natural scale.
_SMALL: Final = 1e-6

Coordinates = Float64[np.ndarray, " coordinate"]


def spring_compliance(
    positions: Float64[np.ndarray, "atom 3"], hops: UInt8[np.ndarray, "atom atom"]
) -> Float64[np.ndarray, "coordinate coordinate"]:
    """Inverse Hessian of the springs, Å² mol/kcal; its lower triangle, in Fortran's order."""
    n = len(positions)
    i, j = np.nonzero((hops > 0) & (hops <= len(_ALONG)))
    along, either = (np.array(values)[hops[i, j] - 1] for values in (_ALONG, _ANY))
    arms = positions[i] - positions[j]
    scale = along / ((arms**2).sum(-1) + _SMALL)
    blocks = scale[:, None, None] * arms[:, :, None] * arms[:, None] + either[:, None, None] * np.eye(3)
    hessian = np.zeros((n, 3, n, 3))
    hessian[i, :, j] = -blocks
    own = np.tile(_FLOOR * np.eye(3), (n, 1, 1))
    np.add.at(own, i, blocks)
    hessian[range(n), :, range(n)] = own
    # Symmetric: rows and columns may be exchanged for Fortran's order.
    matrix = hessian.reshape(3 * n, 3 * n).T
    factor, _ = dpotrf(matrix, lower=1, overwrite_a=1)
    inverse, _ = dpotri(factor, lower=1, overwrite_c=1)
    return inverse


def minimise(
    gradient: Callable[[list[float]], tuple[float, ...]],
    positions: Float64[np.ndarray, "atom 3"],
    hops: UInt8[np.ndarray, "atom atom"],
    *,
    max_steps: int,
) -> tuple[Float64[np.ndarray, "atom 3"], bool]:
    """Positions (Å) of a minimum near ``positions``, and whether it was reached.

    No energies: what a step gains is taken from the slopes along it at both ends, their mean (exact for a parabola).

    Args:
        gradient: kcal/mol/Å, of flat coordinates.
        positions: Start.
        hops: Bonds between atoms; ``geometry.graph.hop_counts``.
        max_steps: Steps at most.
    """
    inverse = spring_compliance(positions, hops)
    x = positions.ravel()
    limit = _GRADIENT**2 * len(x)
    slope = np.array(gradient(x.tolist()))
    slow, ahead = 0, 0.0
    for _ in range(max_steps):
        step, promise = _step(inverse, slope)
        for trial in range(_TRIALS):
            if trial:  # to where the slope would vanish
                share = float(np.fmax(promise / (promise - ahead), _SHORTEST))
                step, promise = share * step, share * promise
            new = np.array(gradient((x + step).tolist()))
            ahead = float(step @ new)
            if promise + ahead <= 0.0:
                break
        if not isfinite(ahead):
            return x.reshape(-1, 3), False
        change, curvature = new - slope, ahead - promise
        if curvature > 0.0:
            image = dsymv(1.0, inverse, change, lower=1)
            both = (0.5 * (1.0 + float(change @ image) / curvature) * step - image) / curvature
            inverse = dsyr2(1.0, step, both, a=inverse, lower=1, overwrite_a=1)
        slow = slow + 1 if promise + ahead > -2.0 * _GAIN else 0
        x, slope = x + step, new
        if slope @ slope < limit or slow == _SLOW:
            return x.reshape(-1, 3), True
    return x.reshape(-1, 3), False


def _step(inverse: np.ndarray, slope: Coordinates) -> tuple[Coordinates, float]:
    """Newton's step, no atom farther than the reach, and what it promises."""
    step = dsymv(-1.0, inverse, slope, lower=1)
    if step @ slope >= 0.0:
        step = -slope / _ALONG[0]
    longest = float(np.sqrt((step.reshape(-1, 3) ** 2).sum(1).max()))
    if longest > _REACH:
        step *= _REACH / longest
    return step, float(step @ slope)
