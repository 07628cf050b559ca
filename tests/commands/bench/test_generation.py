"""Tests of ``conformergen.commands.bench.generation``."""

from conformergen.commands.bench.generation import generate


def test_generation_is_compared_with_etkdg():
    comparisons = list(generate())
    assert comparisons
    assert all(comparison.peers for comparison in comparisons)
