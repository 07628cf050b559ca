"""Tests of ``conformergen.refinement.mmff``."""

import numpy as np

from conformergen.refinement import REFINERS


def test_minimum_is_refined_no_further(ensembles):
    refine = REFINERS["mmff94s"]
    once = refine(ensembles[0], max_steps=2000)
    assert once.converged.all()
    assert np.isfinite(once.conformers.energies).all()
    twice = refine(once.conformers, max_steps=2000)
    assert np.abs(twice.conformers.energies - once.conformers.energies).max() < 0.1
    assert np.abs(twice.conformers.positions - once.conformers.positions).max() < 0.1
