"""Tests of ``conformergen.torsion.features``."""

import numpy as np
from support import torsion_features_of

from conformergen.torsion.features import torsion_features


def test_mirror_images_have_the_other_handedness():
    graph, quartets, described, positions = torsion_features_of("C[C@H](O)[C@@H](N)CCO", n=2)
    mirrored = torsion_features(graph, quartets, -positions)
    np.testing.assert_array_equal(mirrored.sides, 2 - described.sides)
    assert (described.sides != 1).any()
    assert (mirrored.relations != described.relations).any()
