"""Exact RMSD over automorphism groups too large to list, by branch and bound over independent blocks.

RMSD^2 = 2 (E0 - lambda(M)) / n with M = X' Y and lambda the largest eigenvalue of the 4x4 key matrix (Theobald 2005,
doi 10.1107/S0108767305015266). lambda(M) = max over rotations of tr(R' M) is subadditive: with M0 the sum of the
fixed part and of each block's mean, and D its deviations, every completion of a partial choice is at most
lambda(M0 + sum of chosen D) + sum over open blocks of max lambda(D). Only proven bounds prune.
"""

from typing import Final

import numpy as np
from jaxtyping import Float, Float64, Int64

from conformergen.geometry.automorphism import Block, SymmetryGroup
from conformergen.geometry.rmsd import largest_root, rmsd_matrix

#: Groups of at most this size are listed, and each member is tested.
LISTED: Final = 64
#: Pairs in one pass; bounds memory for any ensemble size.
_CHUNK: Final = 2048
#: Partial choices expanded at once.
_SLICE: Final = 100_000
#: Rounds of alternation between rotation and choice of maps for the first solution.
_ROUNDS: Final = 3
#: Double roots (of blocks of two atoms) are known to a relative 1e-8: a bound prunes only when it is lower by more.
_MARGIN: Final = 1.0 - 1e-7

Matrices = Float64[np.ndarray, "pair 3 3"]


def _rotation(m: Matrices) -> Matrices:
    """Rotation that maximises tr(R' M), by singular values (Kabsch 1976)."""
    u, _, v = np.linalg.svd(m)
    u[np.linalg.det(u) * np.linalg.det(v) < 0, :, -1] *= -1.0
    return u @ v


def _correlations(
    x: Float64[np.ndarray, "pair atom 3"], y: Float64[np.ndarray, "pair atom 3"], block: Block
) -> Float64[np.ndarray, "pair map 3 3"]:
    """X_b' Y_b of each map of a block."""
    return np.einsum("pmi,psmj->psij", x[:, block.atoms], y[:, block.maps])


def _search(
    fixed: Matrices, parts: list[Float64[np.ndarray, "pair _ 3 3"]], best: Float64[np.ndarray, " pair"]
) -> None:
    """Raise ``best`` to the largest lambda over all choices of one map from each part."""
    means = [c.mean(1) for c in parts]
    deviations = [c - m[:, None] for c, m in zip(parts, means, strict=True)]
    bounds = [largest_root(d).max(1) for d in deviations]
    order = sorted(range(len(parts)), key=lambda b: -float(bounds[b].mean()))
    deviations = [deviations[b] for b in order]
    remaining = np.zeros((len(order) + 1, len(fixed)))
    for depth in reversed(range(len(order))):
        remaining[depth] = remaining[depth + 1] + bounds[order[depth]]
    start = fixed + sum(means)
    open_pairs = np.flatnonzero(largest_root(start) + remaining[0] > best * _MARGIN)
    if len(open_pairs) == 0:
        return
    # Incumbents: for a fixed rotation the blocks are independent.
    m = start[open_pairs]
    chosen = [parts[b][open_pairs] for b in order]
    base = fixed[open_pairs]
    for _ in range(_ROUNDS):
        rotation = _rotation(m)
        m = base.copy()
        for c in chosen:
            picked = np.einsum("pij,psij->ps", rotation, c).argmax(1)
            m += c[np.arange(len(c)), picked]
        best[open_pairs] = np.maximum(best[open_pairs], largest_root(m))
    stack = [(0, open_pairs, start[open_pairs])]
    while stack:
        depth, pairs, partial = stack.pop()
        alive = largest_root(partial) + remaining[depth][pairs] > best[pairs] * _MARGIN
        pairs, partial = pairs[alive], partial[alive]
        if len(pairs) == 0:
            continue
        d = deviations[depth][pairs]
        n_maps = d.shape[1]
        if len(pairs) * n_maps > _SLICE:
            half = len(pairs) // 2
            if half:
                stack += [(depth, pairs[:half], partial[:half]), (depth, pairs[half:], partial[half:])]
                continue
        children = (partial[:, None] + d).reshape(-1, 3, 3)
        owners = np.repeat(pairs, n_maps)
        value = largest_root(children)
        if depth + 1 == len(order):
            np.maximum.at(best, owners, value)
            continue
        keep = value + remaining[depth + 1][owners] > best[owners] * _MARGIN
        stack.append((depth + 1, owners[keep], children[keep]))


def group_rmsd_matrix(
    ref: Float[np.ndarray, "ref atom 3"],
    gen: Float[np.ndarray, "gen atom 3"],
    group: SymmetryGroup,
    *,
    device: str | None = None,
) -> Float64[np.ndarray, "ref gen"]:
    """RMSD in Å after the best proper rotation and the best automorphism of the group, exact for any group size.

    ``device`` is a torch device for listed groups; NumPy where it is None, and for large groups.
    """
    if group.size <= LISTED:
        return rmsd_matrix(ref, gen, group.permutations().astype(np.int64), device=device)[0]
    n = ref.shape[1]
    x = (ref - ref.mean(1, keepdims=True, dtype=np.float64)).astype(np.float64)
    y = (gen - gen.mean(1, keepdims=True, dtype=np.float64)).astype(np.float64)
    rows, columns = (i.ravel() for i in np.indices((len(x), len(y))))
    result = np.zeros(len(rows))
    moving = np.concatenate([b.atoms for b in group.blocks]) if group.blocks else np.zeros(0, dtype=np.int64)
    still = np.setdiff1d(np.arange(n), moving)
    for begin in range(0, len(rows), _CHUNK):
        part = slice(begin, begin + _CHUNK)
        xs, ys = x[rows[part]], y[columns[part]]
        half_energy = 0.5 * ((xs**2).sum((1, 2)) + (ys**2).sum((1, 2)))
        best = np.full(len(xs), -np.inf)
        for o in group.outer:
            permuted = ys[:, o]
            fixed = np.einsum("pmi,pmj->pij", xs[:, still], permuted[:, still])
            if group.blocks:
                best = np.maximum(best, 0.0)
                _search(fixed, [_correlations(xs, permuted, b) for b in group.blocks], best)
            else:
                best = np.maximum(best, largest_root(fixed))
        result[part] = np.sqrt(np.maximum(2.0 * (half_energy - best) / n, 0.0))
    return result.reshape(len(x), len(y))


def best_permutation(
    ref: Float[np.ndarray, "atom 3"], gen: Float[np.ndarray, "atom 3"], group: SymmetryGroup
) -> Int64[np.ndarray, " atom"]:
    """An automorphism that brings ``gen`` onto ``ref`` best, found by alternating rotation and choice of maps.

    A local optimum of each coset, for showing two structures on each other.
    """
    x, y = (ref - ref.mean(0)).astype(np.float64), (gen - gen.mean(0)).astype(np.float64)
    winner, best = group.outer[0].astype(np.int64), -np.inf
    for o in group.outer:
        permutation = o.astype(np.int64)
        for _ in range(2 * _ROUNDS):
            rotation = _rotation((x.T @ y[permutation])[None])[0]
            for block in group.blocks:
                scores = np.einsum("mi,ij,smj->s", x[block.atoms], rotation, y[o[block.maps]])
                permutation[block.atoms] = o[block.maps[scores.argmax()]]
        value = float(largest_root((x.T @ y[permutation])[None])[0])
        if value > best:
            winner, best = permutation, value
    return winner
