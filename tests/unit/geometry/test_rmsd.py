"""Tests of ``conformergen.geometry.rmsd``."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from conformergen.geometry.rmsd import kabsch_rotation, largest_root, rmsd_matrix


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_largest_root_is_the_sum_of_singular_values(rank):
    """Double roots too: a matrix of rank 1, which swapping two atoms makes, has nothing else."""
    rng = np.random.default_rng(rank)
    m = rng.normal(size=(2000, 3, rank)) @ rng.normal(size=(2000, rank, 3)) * np.exp(2 * rng.normal(size=(2000, 1, 1)))
    u, s, v = np.linalg.svd(m)
    expected = s[:, 0] + s[:, 1] + np.sign(np.linalg.det(u) * np.linalg.det(v)) * s[:, 2]
    np.testing.assert_allclose(largest_root(m), expected, rtol=5e-8 if rank == 1 else 1e-12)
    assert largest_root(np.zeros((3, 3, 3))).tolist() == [0.0, 0.0, 0.0]


def test_rotated_molecule_has_no_rmsd_and_mirror_image_has():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1, 9, 3))
    rotated = x @ Rotation.random(random_state=1).as_matrix().T + 3.0
    identity = np.arange(9)[None]
    assert rmsd_matrix(x, rotated, identity)[0][0, 0] < 1e-6
    assert rmsd_matrix(x, -x, identity)[0][0, 0] > 0.1


def test_kabsch_recovers_the_rotation():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(7, 3))
    r = Rotation.random(random_state=2).as_matrix()
    np.testing.assert_allclose(kabsch_rotation(x @ r, x), r, atol=1e-10)


def test_torch_and_numpy_give_the_same_matrix():
    rng = np.random.default_rng(0)
    ref, gen = rng.normal(size=(5, 9, 3)), rng.normal(size=(7, 9, 3))
    permutations = np.array([np.arange(9), *(rng.permutation(9) for _ in range(5))])
    plain, winner = rmsd_matrix(ref, gen, permutations)
    other, again = rmsd_matrix(ref, gen, permutations, device="cpu")
    np.testing.assert_allclose(other, plain, atol=1e-12)
    np.testing.assert_array_equal(winner, again)
    one_by_one = [[rmsd_matrix(r[None], g[None], p[None])[0][0, 0] for p in permutations] for r in ref for g in gen]
    np.testing.assert_allclose(plain.ravel(), np.min(one_by_one, axis=1), atol=1e-12)


@pytest.mark.parametrize("case", ["same", "flat", "line", "point", "mirror"])
def test_degenerate_structures_have_exact_rmsds(case):
    """Where roots of the quartic coincide: identical, planar, linear, collapsed and mirror-image structures."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(1, 8, 3))
    y = x.copy()
    if case == "flat":
        x[..., 2], y = 0.0, rng.normal(size=(1, 8, 3)) * [1, 1, 0]
    elif case == "line":
        x[..., 1:], y = 0.0, rng.normal(size=(1, 8, 3)) * [1, 0, 0]
    elif case == "point":
        y = np.zeros_like(x)
    elif case == "mirror":
        y = -x
    x, y = (a - a.mean(1, keepdims=True) for a in (x, y))
    u, s, v = np.linalg.svd(x[0].T @ y[0])
    s[-1] *= np.sign(np.linalg.det(u) * np.linalg.det(v)) or 1.0
    expected = np.sqrt(max(0.0, ((x**2).sum() + (y**2).sum() - 2.0 * s.sum()) / 8))
    assert rmsd_matrix(x, y, np.arange(8)[None])[0][0, 0] == pytest.approx(expected, abs=2e-7)
