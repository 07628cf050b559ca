"""Tests of ``conformergen.refinement.interface``."""

import numpy as np
import pytest

from conformergen.refinement import REFINERS, xtb


@pytest.mark.parametrize("name", REFINERS)
def test_refiners_keep_order_count_and_input(name, ensembles):
    if name == "gfn-ff" and not xtb.available():
        pytest.skip("the xtb program is not installed")
    conformers = ensembles[0]
    before = conformers.positions.copy()
    out = REFINERS[name](conformers, max_steps=200)
    assert len(out.conformers) == len(conformers) == len(out.converged)
    np.testing.assert_array_equal(conformers.positions, before)
    assert np.abs(out.conformers.positions - before).max() < 3.0
