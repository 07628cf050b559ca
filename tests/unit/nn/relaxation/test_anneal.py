"""Tests of ``conformergen.nn.relaxation.anneal``."""

import pytest
import torch
from e3nn import o3

from conformergen.nn.relaxation import (
    RELAXATION_MODES,
    RelaxationSettings,
    RelaxedBranch,
    StepTerms,
    collect_sums,
)


def test_annealed_penalties_are_those_of_the_generators():
    """On an equivariant map the Lie term vanishes; on a general one it does not."""
    settings = RelaxationSettings(mode="anneal", rank=0)
    mode = RELAXATION_MODES["anneal"](settings, total_steps=10)
    branch = RelaxedBranch([o3.Irreps("2x1o")], sources=[0], rank=0, form=mode.form(settings)).train()
    x = torch.randn(5, 3, 2)
    with torch.no_grad():
        branch.blocks[0].w.copy_(torch.kron(torch.eye(3), torch.randn(2, 2)))
    branch([x], [torch.zeros_like(x)], torch.ones(5, 1, 1))
    terms = StepTerms(branches=[branch], core=[], rotated=lambda: torch.zeros(()))
    extra = float(mode.objective(torch.zeros(()), terms))
    size = float(branch.blocks[0](x).square().mean().sqrt())
    assert extra == pytest.approx(0.01 * size, rel=1e-3)
    with torch.no_grad():
        branch.blocks[0].w.copy_(torch.randn(6, 6))
    assert float(mode.objective(torch.zeros(()), terms)) > 0.01 * float(branch.blocks[0](x).square().mean().sqrt()) * 2


@pytest.mark.parametrize("mode", ["fixed", "learned", "recm"])
def test_last_tenth_is_equivariant(mode):
    settings = RelaxationSettings(mode=mode)
    rule = RELAXATION_MODES[mode](settings, total_steps=10)
    branch = RelaxedBranch([o3.Irreps("2x1o")], sources=[0], rank=1, form=rule.form(settings))
    optimizer = torch.optim.Adam(branch.parameters(), lr=0.1)
    for step in range(10):
        optimizer.zero_grad(set_to_none=False)
        x = torch.randn(4, 3, 2)
        branch([x], [x], torch.ones(4, 1, 1))[0].square().sum().backward()
        rule.advance([branch], collect_sums([branch]), step=step)
        optimizer.step()
    assert branch.max_level == 0.0
