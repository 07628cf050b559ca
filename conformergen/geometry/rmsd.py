"""Exact symmetry-aware RMSD matrices by the quaternion characteristic polynomial.

RMSD^2 = 2 (E0 - lambda) / n, with M = X' Y and lambda the largest root of the quartic
x^4 - 2 |M|^2 x^2 - 8 det(M) x + |M|^4 - 4 |cof M|^2 (Theobald 2005, doi 10.1107/S0108767305015266). All its roots are
real, so that Laguerre's method falls monotonically to the largest from an upper bound, with cubic convergence. A
further automorphism is first tested at the best root so far, and seldom solved. Pairs are the last axis: each step of
the arithmetic runs over contiguous memory. The same lines run on NumPy and on torch.
"""

import math
from typing import Any, Final

import numpy as np
from jaxtyping import Float, Float64, Int, Int64

#: Relative step at which the iteration stops.
_TOLERANCE: Final = 1e-13
#: Largest number of iterations; a few suffice, except for roots that nearly coincide.
_MAX_ITERATIONS: Final = 100
#: Iterations before the first look at the steps.
_UNCHECKED: Final = 2
#: Covers the cancellation in the bound.
_ABOVE: Final = 1.0 + 1e-7
#: Pairs per chunk: bounds memory for any ensemble size, and keeps the arrays of a chunk in the cache.
_CHUNK: Final = 4096
#: Pairs per chunk on a GPU.
_CHUNK_ON_DEVICE: Final = 2**20

#: NumPy array or torch tensor.
Array = Any
#: The modules ``numpy`` or ``torch``.
Namespace = Any
_Quartic = tuple[Array, ...]


def _quartic(m: Array) -> _Quartic:
    """Coefficients of x^2, x and 1 for matrices (3, 3, ...)."""
    (a, b, c), (d, e, f), (g, h, i) = m
    first = (e * i - f * h, f * g - d * i, d * h - e * g)
    others = (c * h - b * i, a * i - c * g, b * g - a * h, b * f - c * e, c * d - a * f, a * e - b * d)
    squared = (m * m).reshape(9, *a.shape).sum(0)
    minors = sum(x * x for x in first + others)
    determinant = a * first[0] + b * first[1] + c * first[2]
    return -2.0 * squared, -8.0 * determinant, squared * squared - 4.0 * minors


def _at(x: Array, quartic: _Quartic) -> tuple[Array, Array, Array]:
    """Value, first derivative, and half the second."""
    c2, c1, c0 = quartic
    square = x * x
    inner = square + c2
    return inner * square + c1 * x + c0, 2.0 * (square + inner) * x + c1, 5.0 * square + inner


def _descend(xp: Namespace, root: Array, quartic: _Quartic) -> Array:
    """Largest root from a start at or above it, by Laguerre's method; those that have arrived are left behind."""
    for iteration in range(_MAX_ITERATIONS):
        value, slope, curvature = _at(root, quartic)
        divisor = slope + xp.sqrt(xp.abs(9.0 * slope * slope - 24.0 * value * curvature))
        # Above the largest root the slope is positive: what rounding has carried to or below a double root stays.
        step = 4.0 * value / xp.where(slope > 0.0, divisor, xp.inf)
        root = root - step
        if iteration < _UNCHECKED:
            continue
        moving = xp.abs(step) > _TOLERANCE * root
        left = int(moving.sum())
        if left == 0:
            break
        if 2 * left < len(root):
            root[moving] = _descend(xp, root[moving], tuple(c[moving] for c in quartic))
            break
    return root


def _bound(xp: Namespace, start: Array, quartic: _Quartic) -> Array:
    """Upper bound of the largest root: ``start``, or the bound of the singular values' sum by |M| and |cof M|.

    (a + b + c)^2 = |M|^2 + 2 (ab + bc + ca), and ab + bc + ca <= sqrt(3) |cof M|.
    """
    c2, _, c0 = quartic
    squared = -0.5 * c2
    minors = xp.sqrt(xp.abs(squared * squared - c0))  # twice |cof M|
    return xp.minimum(start, xp.sqrt(squared + math.sqrt(3.0) * minors) * _ABOVE)


def largest_root(
    m: Float64[np.ndarray, "*pair 3 3"], start: Float64[np.ndarray, "*pair"] | float = np.inf
) -> Float64[np.ndarray, "*pair"]:
    """Largest eigenvalue of the 4x4 key matrix: max over rotations of tr(R' M).

    Args:
        m: Correlation matrices.
        start: An upper bound that is known, E0.
    """
    quartic = _quartic(np.ascontiguousarray(np.moveaxis(m.reshape(-1, 3, 3), 0, -1)))
    root = _descend(np, _bound(np, np.broadcast_to(start, m.shape[:-2]).ravel(), quartic), quartic)
    return root.reshape(m.shape[:-2])


def rmsd_matrix(
    ref: Float[np.ndarray, "ref atom 3"],
    gen: Float[np.ndarray, "gen atom 3"],
    permutations: Int[np.ndarray, "automorphism atom"],
    *,
    device: str | None = None,
) -> tuple[Float64[np.ndarray, "ref gen"], Int64[np.ndarray, "ref gen"]]:
    """RMSD after the best proper rotation over all listed relabelings, and the index of the best one.

    Args:
        ref: Å.
        gen: Å.
        permutations: Relabelings of ``gen``.
        device: A torch device; NumPy where it is None. Arithmetic is in float64 on both.

    Returns:
        RMSD in Å, and the row of ``permutations`` that relabels ``gen`` best.
    """
    if len(gen) == 0 or len(ref) == 0:
        return np.zeros((len(ref), len(gen))), np.zeros((len(ref), len(gen)), dtype=np.int64)
    x = ref - ref.mean(axis=1, keepdims=True, dtype=np.float64)
    y = gen - gen.mean(axis=1, keepdims=True, dtype=np.float64)
    energy = 0.5 * ((x**2).sum((1, 2))[:, None] + (y**2).sum((1, 2))[None, :])
    best, winner = np.empty(energy.shape), np.empty(energy.shape, dtype=np.int64)
    xp, chunk = _backend(device)

    def put(array: np.ndarray) -> Array:
        array = np.ascontiguousarray(array)
        return array if device is None else xp.from_numpy(array).to(device)

    right = put(y.transpose(1, 2, 0).reshape(y.shape[1], -1))
    relabelled = [right[p] for p in permutations]
    rows = max(1, chunk // len(gen))
    for begin in range(0, len(x), rows):
        block = slice(begin, begin + rows)
        left = put(x[block].transpose(2, 0, 1).reshape(-1, x.shape[1]))
        roots, index = _best_roots(xp, left, relabelled, put(energy[block]))
        best[block], winner[block] = (np.asarray(a if device is None else a.cpu()) for a in (roots, index))
    return np.sqrt(np.maximum(2.0 * (energy - best) / ref.shape[1], 0.0)), winner


def _backend(device: str | None) -> tuple[Namespace, int]:
    """Module of the arithmetic, and pairs in one chunk."""
    if device is None:
        return np, _CHUNK
    import torch

    return torch, _CHUNK if device == "cpu" else _CHUNK_ON_DEVICE


def _best_roots(xp: Namespace, left: Array, relabelled: list[Array], energy: Array) -> tuple[Array, Array]:
    """Largest root of each pair over the relabelings, and which gave it; (ref, gen)."""
    n_ref, n_gen = energy.shape
    start = energy.reshape(-1)
    best = start
    index = xp.zeros_like(start, dtype=xp.int64)
    for number, right in enumerate(relabelled):
        quartic = _quartic(xp.moveaxis((left @ right).reshape(3, n_ref, 3, n_gen), 2, 1).reshape(3, 3, n_ref * n_gen))
        if number == 0:
            best = _descend(xp, _bound(xp, start, quartic), quartic)
            continue
        # No root lies above a point where the quartic and its first two derivatives are positive.
        value, slope, curvature = _at(best, quartic)
        above = (value < 0.0) | (slope < 0.0) | (curvature < 0.0)
        if bool(above.any()):
            part = tuple(c[above] for c in quartic)
            best[above] = _descend(xp, _bound(xp, start[above], part), part)
            index[above] = number
    return best.reshape(n_ref, n_gen), index.reshape(n_ref, n_gen)


def kabsch_rotation(
    target: Float[np.ndarray, "*batch atom 3"], mobile: Float[np.ndarray, "*batch atom 3"]
) -> Float[np.ndarray, "*batch 3 3"]:
    """Proper rotation R that minimises |target - mobile @ R| for centred sets (Kabsch 1976)."""
    u, _, vt = np.linalg.svd(np.swapaxes(mobile, -1, -2) @ target)
    sign = np.sign(np.linalg.det(u @ vt))
    u = u.copy()
    u[..., :, -1] *= sign[..., None]
    return u @ vt
