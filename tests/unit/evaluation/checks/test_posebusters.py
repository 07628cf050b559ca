"""Tests of ``conformergen.evaluation.checks.posebusters``."""

import importlib.util

import pytest
from support import check, scoring_task


@pytest.mark.skipif(importlib.util.find_spec("posebusters") is None, reason="posebusters is not installed")
def test_posebusters_finds_the_broken_sample():
    def squeeze(positions, molecule):
        positions = positions.copy()
        positions[1] *= 0.7
        return positions

    columns = check("posebusters", scoring_task("CC(=O)Nc1ccc(O)cc1", change=squeeze), max_samples=4)["columns"]
    assert columns["all_checks"] == {"passes_percent": 75.0, "n": 4}
    assert columns["bond_lengths"]["passes_percent"] == 75.0
    assert columns["aromatic_ring_flatness"]["passes_percent"] == 100.0
