"""Tests of ``conformergen.nn.relaxation.interface``."""

import math

import pytest
import torch
from e3nn import o3

from conformergen.nn.relaxation import (
    RELAXATION_MODES,
    RelaxationSettings,
    RelaxedBranch,
)


def test_levels_of_each_mode_after_one_step():
    """The rules by hand, on one block with known sums: <delta, u> = 2, |delta|^2 = 4, |u|^2 = 4, |f|^2 = 1."""
    wanted = {
        "fixed": 0.1,
        "anneal": 0.02,  # triangle of 100 steps: 2 (t + 1) / T
        "ace": 1.0 - 0.01 * (-0.5 * 2.0 + 0.0),  # gamma - rate (dJ/dgamma + lambda), dJ/dgamma = -s <delta, u>
        "remul": 1.0,
        "rpp": 1.0,
        "learned": 0.2,  # moved by the optimiser only
        "recm": math.tanh(0.99 * 0.2 + 0.01 * 4.0 * 0.5),
    }
    assert {*wanted, "none"} == set(RELAXATION_MODES)
    for name, level in wanted.items():
        settings = RelaxationSettings(mode=name, rank=1)
        form = RELAXATION_MODES[name].form(settings)
        branch = RelaxedBranch([o3.Irreps("2x1o")], sources=[0], rank=1, form=form)
        mode = RELAXATION_MODES[name](settings, total_steps=100)
        mode.advance([branch], [torch.tensor([[2.0, 4.0, 4.0, 1.0]])], step=0)
        assert float(branch.beta) == pytest.approx(level, rel=1e-6), name
        assert float(branch.scale) == pytest.approx(0.5 if form.kind == "unit" else 1.0), name


def test_every_mode_has_the_same_branch_parameters():
    entries = [o3.Irreps("3x0e"), o3.Irreps("3x1o")]
    counts = {
        name: sum(p.numel() for b in branch.blocks for p in b.parameters())
        for name, mode in RELAXATION_MODES.items()
        if mode.has_branches
        for branch in [RelaxedBranch(entries, sources=[0, 1], rank=2, form=mode.form(RelaxationSettings()))]
    }
    assert len(set(counts.values())) == 1
