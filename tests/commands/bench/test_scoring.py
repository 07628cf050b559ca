"""Tests of ``conformergen.commands.bench.scoring``."""

import numpy as np

from conformergen.commands.bench.scoring import _plan, _task


def test_sets_have_the_sizes_of_the_plan():
    plan = _plan(None)
    assert all(k > 0 for _, k in plan)
    task = _task("x", "CCCCO", 4, np.random.default_rng(0))
    assert (len(task.references), len(task.samples)) == (4, 8)
