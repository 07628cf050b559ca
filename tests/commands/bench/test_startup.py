"""Tests of ``conformergen.commands.bench.startup``."""

from conformergen.commands.bench.startup import startup


def test_start_up_is_compared_with_imports():
    assert all(comparison.units == 1 for comparison in startup())
