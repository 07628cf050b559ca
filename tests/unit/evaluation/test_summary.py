"""Tests of ``conformergen.evaluation.summary``."""

from conformergen.evaluation.summary import paired


def test_paired_difference_ignores_what_one_side_lacks():
    result = paired([1.0, 2.0, float("nan"), 4.0], [0.0, 1.0, 0.0, 3.0])
    assert (result.mean, result.low, result.high, result.n) == (1.0, 1.0, 1.0, 3)
