"""Minimisation that knows a molecule's stiff directions from its bond graph.

BFGS on the inverse Hessian (Nocedal, Wright 2006, eq. 6.17). It starts from that of springs between near atoms of the
graph instead of the unit matrix, in the manner of model Hessians (Lindh et al. 1995, doi 10.1016/0009-2614(95)00646-L).
"""

from collections.abc import Callable
from typing import Final

import numpy as np
from jaxtyping import Float64, UInt8
from scipy.linalg.blas import dsymv, dsyr2
from scipy.linalg.lapack import dpotrf, dpotri

#: Springs between atoms one, two and three bonds apart, kcal/mol/Å²: along their distance, and in any direction. The
#: latter hold planes, which distances do not.
_ALONG: Final = (700.0, 120.0, 10.0)
_ANY: Final = (40.0, 10.0, 2.5)
#: Of each coordinate, kcal/mol/Å².
_FLOOR: Final = 5.0
#: Longest move of an atom in a step, Å.
_REACH: Final = 0.4
#: Root mean square gradient, kcal/mol/Å, at which a minimum is reached; or so many steps that gain less, kcal/mol.
_GRADIENT: Final = 0.05
_SLOW, _GAIN = 3, 5e-4
#: Share of the decrease promised by the slope that a step must give; else it is shortened by the factor.
_ARMIJO, _SHORTER, _SHORTEST = 1e-4, 0.3, 1e-3
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
    energy: Callable[[list[float]], float],
    gradient: Callable[[list[float]], tuple[float, ...]],
    positions: Float64[np.ndarray, "atom 3"],
    hops: UInt8[np.ndarray, "atom atom"],
    *,
    max_steps: int,
) -> tuple[Float64[np.ndarray, "atom 3"], bool]:
    """Positions (Å) of a minimum near ``positions``, and whether it was reached.

    Args:
        energy: kcal/mol of flat coordinates; always called before the gradient of the same.
        gradient: kcal/mol/Å.
        positions: Start.
        hops: Bonds between atoms; ``geometry.graph.hop_counts``.
        max_steps: Steps at most.
    """
    inverse = spring_compliance(positions, hops)
    x = positions.ravel()
    limit = _GRADIENT**2 * len(x)
    flat = x.tolist()
    height, slope = energy(flat), np.array(gradient(flat))
    slow = 0
    for _ in range(max_steps):
        step, promise = _step(inverse, slope)
        share = 1.0
        while True:
            moved = (x + share * step).tolist()
            there = energy(moved)
            if there <= height + _ARMIJO * share * promise or share < _SHORTEST:
                break
            share *= _SHORTER
        if not np.isfinite(there):
            return x.reshape(-1, 3), False
        step = share * step
        new = np.array(gradient(moved))
        change = new - slope
        curvature = step @ change
        if curvature > 0.0:
            image = dsymv(1.0, inverse, change, lower=1)
            both = (step * (0.5 * (1.0 + change @ image / curvature)) - image) / curvature
            inverse = dsyr2(1.0, step, both, a=inverse, lower=1, overwrite_a=1)
        slow = slow + 1 if height - there < _GAIN else 0
        x, height, slope = x + step, there, new
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
