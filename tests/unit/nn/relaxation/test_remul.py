"""Tests of ``conformergen.nn.relaxation.remul``."""

import torch
from e3nn import o3

from conformergen.nn.relaxation import (
    RELAXATION_MODES,
    RelaxationSettings,
    RelaxedBranch,
    StepTerms,
)


def test_gradnorm_turns_weight_to_the_loss_that_lags():
    torch.manual_seed(0)
    settings = RelaxationSettings(mode="remul", remul_weighting="gradnorm")
    mode = RELAXATION_MODES["remul"](settings, total_steps=10)
    branch = RelaxedBranch([o3.Irreps("2x1o")], sources=[0], rank=1, form=mode.form(settings))
    for step in range(20):
        other = branch.blocks[0].squared_norm()
        task = other / (step + 1)  # the task's loss falls, the other does not
        terms = StepTerms(branches=[branch], core=[], rotated=lambda other=other: other)
        mode.objective(task, terms)
    assert float(branch.memory[0, 0]) > 1.2
    assert all(p.grad is None for p in branch.parameters())
