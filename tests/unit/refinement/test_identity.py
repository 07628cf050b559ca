"""Tests of ``conformergen.refinement.identity``."""

import numpy as np

from conformergen.refinement.identity import refine


def test_nothing_changes(ensembles):
    refined = refine(ensembles[0], max_steps=5)
    np.testing.assert_array_equal(refined.conformers.positions, ensembles[0].positions)
    assert refined.converged.all()
