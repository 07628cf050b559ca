"""Tests of ``conformergen.nn.relaxation.ace``."""

import pytest
import torch
from e3nn import o3

from conformergen.nn.relaxation import (
    RELAXATION_MODES,
    RelaxationSettings,
    RelaxedBranch,
)


def test_resilient_constraint_keeps_what_pays():
    """With a constant gain of 1, gamma settles where the slack's price is the gain: lambda = u = 1."""
    settings = RelaxationSettings(mode="ace", ace_constraint="resilient", ace_dual_rate=0.02)
    mode = RELAXATION_MODES["ace"](settings, total_steps=10)
    branch = RelaxedBranch([o3.Irreps("2x1o")], sources=[0], rank=1, form=mode.form(settings))
    for _ in range(4_000):
        # J = -gamma + gamma^2 / 2 has its optimum at 1 and falls off beside it.
        sums = torch.tensor([[1.0 - float(branch.beta), 1.0, 1.0, 1.0]])
        mode.advance([branch], [sums], step=0)
    multiplier, slack = branch.memory[0].tolist()
    assert multiplier == pytest.approx(slack, abs=1e-3)
    assert float(branch.beta) == pytest.approx(slack, abs=1e-3)
    assert float(branch.beta) == pytest.approx(0.5, abs=1e-2)
