"""Tests of ``conformergen.reference.crossing``."""

import numpy as np

from conformergen.reference.crossing import child_torsions


def test_child_has_torsions_of_its_parents_or_new_ones():
    angles = np.array([[0.0, 10.0, 20.0, 30.0], [90.0, 100.0, 110.0, 120.0], [-90.0, -80.0, -70.0, -60.0]])
    rng = np.random.default_rng(0)
    children = np.array([child_torsions(angles, 0, rng) for _ in range(200)])
    assert children.shape == (200, 4)
    own = np.isclose(children, angles[0]).mean()
    others = (np.isclose(children, angles[1]) | np.isclose(children, angles[2])).mean()
    assert own > 0.3
    assert others > 0.05
    again = child_torsions(angles, 0, np.random.default_rng(0))
    np.testing.assert_array_equal(again, children[0])
