"""Tests of ``conformergen.refinement.gfn2``."""

import numpy as np
import pytest

from conformergen.refinement import REFINERS, xtb


def test_minimum_is_refined_no_further(ensembles):
    if not xtb.available() and "gfn2-xtb" == "gfn-ff":
        pytest.skip("the xtb program is not installed")
    refine = REFINERS["gfn2-xtb"]
    once = refine(ensembles[0], max_steps=2000)
    assert once.converged.all()
    assert np.isfinite(once.conformers.energies).all()
    twice = refine(once.conformers, max_steps=2000)
    assert np.abs(twice.conformers.energies - once.conformers.energies).max() < 0.1
    assert np.abs(twice.conformers.positions - once.conformers.positions).max() < 0.1
