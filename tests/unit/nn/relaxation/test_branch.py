"""Tests of ``conformergen.nn.relaxation.branch``."""

import math
import subprocess
import sys

import pytest
import torch
from e3nn import o3

from conformergen.nn.relaxation import (
    BranchForm,
    LinearBlock,
    ParityBlock,
    RelaxedBranch,
    haar_mean,
)

PAIRS = [("5x0e", "4x1o"), ("5x1o", "4x0e"), ("5x1o", "4x1o"), ("3x1o", "2x2e"), ("3x2e", "4x2e"), ("3x1o", "2x1e")]


UNIT = BranchForm(beta=0.2)


def _branch(form=UNIT, **options):
    torch.manual_seed(0)
    entries = [o3.Irreps("3x0e"), o3.Irreps("3x1o")]
    return RelaxedBranch(entries, sources=[0, 1], rank=2, form=form, **options).double()


def _features(n=9, seed=1):
    rng = torch.Generator().manual_seed(seed)
    x = [torch.randn(n, d, 3, dtype=torch.float64, generator=rng) for d in (1, 3)]
    return x, [torch.randn(z.shape, dtype=torch.float64, generator=rng) for z in x]


def _loss(branch, x, f, mask=None):
    mask = torch.ones(len(x[0]), 1, 1, dtype=torch.float64) if mask is None else mask
    return sum((((o - 1.0) * mask) ** 2).sum() for o in branch(x, f, mask))


COMPILED = """
import torch
from e3nn import o3
from conformergen.nn.relaxation import BranchForm, RelaxedBranch

def run(compiled):
    torch.manual_seed(0)
    entries = [o3.Irreps("3x0e"), o3.Irreps("3x1o")]
    branch = RelaxedBranch(entries, sources=[0, 1], rank=2, form=BranchForm(beta=0.2)).train()
    call = torch.compile(branch, backend="aot_eager") if compiled else branch
    x = [torch.randn(9, 1, 3), torch.randn(9, 3, 3)]
    for _ in range(2):  # sums of two micro-batches
        sum(((o - 1.0) ** 2).sum() for o in call(x, x, torch.ones(9, 1, 1))).backward()
    return branch

plain, compiled = run(False), run(True)
torch.testing.assert_close(plain.sums, compiled.sums)
for a, b in zip(plain.parameters(), compiled.parameters(), strict=True):
    torch.testing.assert_close(a.grad, b.grad)
"""


@pytest.mark.parametrize("rank", [0, 3])
@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_block_is_the_complement_at_unit_gain(source, target, rank):
    torch.manual_seed(0)
    into, out = o3.Irreps(source), o3.Irreps(target)
    block = LinearBlock(into, out, rank=rank).double()
    w = block.matrix()
    z = torch.randn(6, block.d_in, block.mul_in, dtype=torch.float64)
    assert torch.allclose(block(z).flatten(1), z.flatten(1) @ w.T, atol=1e-12)
    assert math.isclose(float(w.detach().square().sum()), block.d_out * block.mul_out, rel_tol=1e-10)
    # Channel-last rows and columns to e3nn's layout, where the projection must find nothing.
    flat = w.view(block.d_out, block.mul_out, block.d_in, block.mul_in).permute(1, 0, 3, 2).reshape(w.shape)
    assert haar_mean(flat, into, out).abs().max() < 1e-12


def test_parity_blocks_are_built_for_o3_only():
    entries = [o3.Irreps(text) for text in ("2x0e", "2x0o", "2x1o", "2x1e")]
    names = {
        group: RelaxedBranch(entries, sources=range(4), rank=2, form=UNIT, group=group).names for group in ("so3", "o3")
    }
    assert set(names["o3"]) - set(names["so3"]) == {
        "0e>0o parity", "0o>0e parity", "1o>1e parity", "1e>1o parity"
    }  # fmt: skip
    assert "0e>0e" not in names["o3"]
    kept = RelaxedBranch(entries, sources=range(4), rank=2, form=UNIT, keep_inversion=True).names
    assert set(kept) == {"1o>1o", "1e>1e", "0e>1e", "1e>0e", "0o>1o", "1o>0o"}
    block = ParityBlock(entries[2], entries[3], form=UNIT)
    assert math.isclose(float(block(torch.eye(6).view(6, 3, 2)).detach().square().sum()), 3 * 2, rel_tol=1e-5)


def test_tap_gives_the_derivative_by_beta():
    branch = _branch().train()
    branch.scale.fill_(1.7)
    x, f = _features()
    _loss(branch, x, f).backward()
    taps = branch.sums[:, 0].clone()
    step = 1e-5
    for index in range(len(branch.blocks)):
        with torch.no_grad():
            branch.beta[index] += step
            up = _loss(branch, x, f)
            branch.beta[index] -= 2 * step
            down = _loss(branch, x, f)
            branch.beta[index] += step
        derivative = (up - down) / (2 * step)
        assert math.isclose(float(-derivative / branch.scale[index]), float(taps[index]), rel_tol=1e-3)


def test_padding_and_micro_batches_change_no_sum():
    x, f = _features(8)
    whole = _branch().train()
    _loss(whole, x, f).backward()
    parts = _branch().train()
    for rows in (slice(0, 3), slice(3, 8)):
        _loss(parts, [z[rows] for z in x], [z[rows] for z in f]).backward()
    padded = _branch().train()
    mask = torch.cat([torch.ones(8, 1, 1), torch.zeros(5, 1, 1)]).double()
    junk = [torch.cat([z, torch.full((5, *z.shape[1:]), 9.0, dtype=z.dtype)]) for z in x]
    _loss(padded, junk, [torch.cat([z, 3.0 * torch.ones_like(z[:5])]) for z in f], mask).backward()
    for other in (parts, padded):
        assert torch.allclose(other.sums, whole.sums, rtol=1e-6)
        assert all(torch.allclose(a.grad, b.grad) for a, b in zip(other.parameters(), whole.parameters(), strict=True))


@pytest.mark.slow
def test_compiled_branch_gives_the_same_sums():
    """In a process of its own: the shape checks of the tests cannot be traced."""
    done = subprocess.run([sys.executable, "-c", COMPILED], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
