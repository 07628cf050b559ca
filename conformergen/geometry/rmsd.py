"""Exact symmetry-aware RMSD matrices by the quaternion characteristic polynomial.

Theobald 2005, doi 10.1107/S0108767305015266; Newton's method from an upper bound falls monotonically to the
largest root, so each further automorphism is first tested at the best root so far and often not solved.
"""

from typing import Final

import numpy as np
from jaxtyping import Float, Float64, Int, Int64

#: Relative step at which Newton's iteration stops.
_TOLERANCE: Final = 1e-13
_MAX_ITERATIONS: Final = 100
#: Pairs per chunk; bounds memory for any ensemble size.
_CHUNK: Final = 8192


def largest_root(
    m: Float64[np.ndarray, "pair 3 3"], start: Float64[np.ndarray, " pair"]
) -> Float64[np.ndarray, " pair"]:
    """Largest eigenvalue of the 4x4 key matrix: max over rotations of tr(R' M)."""
    squared = np.einsum("pij,pij->p", m, m)
    gram = np.einsum("pki,pkj->pij", m, m)
    c2, c1 = -2.0 * squared, -8.0 * np.linalg.det(m)
    c0 = 2.0 * np.einsum("pij,pij->p", gram, gram) - squared**2
    root = np.minimum(start, np.sqrt(3.0 * squared))
    for _ in range(_MAX_ITERATIONS):
        value = ((root * root + c2) * root + c1) * root + c0
        slope = (4.0 * root * root + 2.0 * c2) * root + c1
        step = np.where(slope > 0.0, value / np.where(slope > 0.0, slope, 1.0), 0.0)
        root = root - step
        if np.all(np.abs(step) <= _TOLERANCE * np.abs(root) + 1e-300):
            break
    return root


def rmsd_matrix(
    ref: Float[np.ndarray, "ref atom 3"],
    gen: Float[np.ndarray, "gen atom 3"],
    permutations: Int[np.ndarray, "automorphism atom"],
) -> tuple[Float64[np.ndarray, "ref gen"], Int64[np.ndarray, "ref gen"]]:
    """RMSD after the best proper rotation over all listed relabelings, and the index of the best one.

    Returns:
        RMSD in Å, and the row of ``permutations`` that relabels ``gen`` best.
    """
    if len(gen) == 0 or len(ref) == 0:
        return np.zeros((len(ref), len(gen))), np.zeros((len(ref), len(gen)), dtype=np.int64)
    n = ref.shape[1]
    x = ref - ref.mean(axis=1, keepdims=True, dtype=np.float64)
    y = gen - gen.mean(axis=1, keepdims=True, dtype=np.float64)
    energy = 0.5 * ((x**2).sum((1, 2))[:, None] + (y**2).sum((1, 2))[None, :])
    best = np.full(energy.shape, -np.inf)
    best_permutation = np.zeros(energy.shape, dtype=np.int64)
    rows = max(1, _CHUNK // len(gen))
    for begin in range(0, len(x), rows):
        block = slice(begin, begin + rows)
        start = energy[block].reshape(-1)
        for index, permutation in enumerate(permutations):
            m = np.einsum("kni,gnj->kgij", x[block], y[:, permutation], optimize=True).reshape(-1, 3, 3)
            root = largest_root(m, start).reshape(best[block].shape)
            better = root > best[block] * (1 + 1e-12)
            best[block] = np.where(better, root, best[block])
            best_permutation[block] = np.where(better, index, best_permutation[block])
    return np.sqrt(np.maximum(2.0 * (energy - best) / n, 0.0)), best_permutation


def kabsch_rotation(
    target: Float[np.ndarray, "*batch atom 3"], mobile: Float[np.ndarray, "*batch atom 3"]
) -> Float[np.ndarray, "*batch 3 3"]:
    """Proper rotation R that minimises |target - mobile @ R| for centred sets (Kabsch 1976)."""
    u, _, vt = np.linalg.svd(np.swapaxes(mobile, -1, -2) @ target)
    sign = np.sign(np.linalg.det(u @ vt))
    u = u.copy()
    u[..., :, -1] *= sign[..., None]
    return u @ vt
