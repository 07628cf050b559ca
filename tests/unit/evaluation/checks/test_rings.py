"""Tests of ``conformergen.evaluation.checks.rings``."""

import numpy as np
import pytest
from support import CHIRAL_ALKENE, check, scoring_task

from conformergen.evaluation.scoring import ScoringTask


def test_rings_are_scored_by_their_own_atoms():
    """Noise on a substituent does not matter; a flattened ring does."""
    task = scoring_task()
    exact = ScoringTask(name="e", smiles=CHIRAL_ALKENE, references=task.references, samples=task.references)
    columns = check("rings", exact)["columns"]
    assert columns["ring_mat_r"]["median"] == pytest.approx(0.0, abs=1e-4)
    assert columns["ring_cov_p"]["median"] == 100.0

    def flatten(positions, molecule):
        return positions * np.array([1.0, 1.0, 0.2], dtype=np.float32)

    assert check("rings", scoring_task(change=flatten))["columns"]["ring_cov_p"]["median"] < 100.0
    assert check("rings", scoring_task("c1ccccc1CC"))["columns"]["n_rings"]["median"] == 0.0
