"""Tests of ``conformergen.geometry.duplicates``."""

import numpy as np
from scipy.spatial.transform import Rotation

from conformergen.geometry.automorphism import factorise
from conformergen.geometry.duplicates import DuplicateRule, farthest_first, unique_conformers


def test_duplicates_are_found_across_rotation():
    rng = np.random.default_rng(0)
    base = rng.normal(size=(8, 3)) * 2
    other = base + rng.normal(size=(8, 3))
    turned = base @ Rotation.random(random_state=3).as_matrix().T
    kept = unique_conformers(
        np.stack([base, turned, other]),
        np.array([0.0, 0.01, 0.02]),
        masses=np.ones(8),
        compared=np.arange(8),
        group=factorise(list(range(8)), []),
        achiral=False,
        rule=DuplicateRule(),
    )
    assert kept == [0, 2]


def test_farthest_first_spreads():
    points = np.zeros((4, 2, 3))
    points[:, 1, 0] = [1.0, 1.1, 5.0, 3.0]
    picked = farthest_first(points, factorise([0, 1], []), 3)
    assert picked.tolist() == [0, 2, 3]
    assert farthest_first(points, factorise([0, 1], []), 9).shape == (4,)
