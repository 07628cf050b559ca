"""Projector, branch, and every relaxation mode: what each does to a step, and what a checkpoint keeps."""

import math
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from e3nn import o3

from conformergen.geometry.rotations import haar_rotations
from conformergen.nn.relaxation import (
    RELAXATION_MODES,
    BranchForm,
    LinearBlock,
    ParityBlock,
    RelaxationSettings,
    RelaxedBranch,
    StepTerms,
    collect_sums,
    haar_mean,
)
from conformergen.nn.relaxation.recm import rate

PAIRS = [("5x0e", "4x1o"), ("5x1o", "4x0e"), ("5x1o", "4x1o"), ("3x1o", "2x2e"), ("3x2e", "4x2e"), ("3x1o", "2x1e")]
UNIT = BranchForm(beta=0.2)


def _icosahedral() -> list[torch.Tensor]:
    """The 60 proper rotations of the icosahedron: their mean over maps of l <= 2 is the Haar mean."""
    golden = (1 + 5**0.5) / 2
    axis = torch.tensor([0.0, 1.0, golden], dtype=torch.float64)
    axis = axis / axis.norm() * (2 * math.pi / 5)
    zero = torch.zeros((), dtype=torch.float64)
    x, y, z = axis.unbind()
    generator = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero]).view(3, 3)
    fivefold = torch.linalg.matrix_exp(generator)
    threefold = torch.tensor([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]], dtype=torch.float64)
    group = [torch.eye(3, dtype=torch.float64)]
    for member in group:  # grows while it is read
        for step in (fivefold, threefold):
            product = member @ step
            if not any(torch.allclose(product, known) for known in group):
                group.append(product)
    return group


def _wigner(ir, r):
    """D^l(r) from the spherical harmonics themselves, D Y(x) = Y(r x), times the parity for improper r."""
    sign = float(torch.linalg.det(r).sign())
    proper = r * sign
    if ir.l == 0:
        d = torch.ones(1, 1, dtype=torch.float64)
    else:
        x = torch.randn(40, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        before = o3.spherical_harmonics(ir.l, x, normalize=True)
        after = o3.spherical_harmonics(ir.l, x @ proper.T, normalize=True)
        d = torch.linalg.lstsq(before, after).solution.T
    return d * (ir.p if sign < 0 else 1)


def _representation(irreps, r):
    """Block-diagonal matrix of a group element in e3nn's flat layout."""
    return torch.block_diag(*[_wigner(ir, r) for mul, ir in irreps for _ in range(mul)])


def _group_mean(weight, source, target, elements):
    mean = torch.zeros_like(weight)
    for r in elements:
        mean += _representation(target, r).T @ weight @ _representation(source, r) / len(elements)
    return mean


@pytest.mark.parametrize("group", ["so3", "o3"])
def test_closed_projection_is_the_group_mean(group):
    """Any irreps, parities and repeated entries included; exact over the icosahedral group for l <= 2."""
    source, target = o3.Irreps("2x0e+0o+2x1o+1e+2e+1o"), o3.Irreps("0e+2x0o+1o+2x1e+2o+2e+2x0e")
    weight = torch.randn(target.dim, source.dim, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    elements = _icosahedral()
    assert len(elements) == 60
    if group == "o3":
        elements += [-r for r in elements]
    projected = haar_mean(weight, source, target, group=group)
    assert (projected - _group_mean(weight, source, target, elements)).abs().max() < 1e-12
    assert torch.allclose(haar_mean(projected, source, target, group=group), projected, atol=1e-14)


def test_closed_projection_is_the_sampled_haar_mean_for_high_l():
    source, target = o3.Irreps("0e+1o+3o"), o3.Irreps("3o+2e+3o")
    rng = torch.Generator().manual_seed(2)
    weight = torch.randn(target.dim, source.dim, dtype=torch.float64, generator=rng)
    rotations = haar_rotations(torch.randn(1500, 4, generator=rng, dtype=torch.float64))
    sampled = _group_mean(weight, source, target, list(rotations))
    assert (haar_mean(weight, source, target) - sampled).abs().max() < 5 / 1500**0.5


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


def test_compiled_branch_gives_the_same_sums():
    """In a process of its own: the shape checks of the tests cannot be traced."""
    done = subprocess.run([sys.executable, "-c", COMPILED], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


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


def test_gradnorm_turns_weight_to_the_loss_that_lags():
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


def test_rate_follows_the_length_of_the_run():
    settings = RelaxationSettings()
    assert rate(settings, 1000) == 1e-2
    assert rate(settings, 100_000) == pytest.approx(5e-4)
    assert rate(replace(settings, lam=0.3), 10) == 0.3
    falling = replace(settings, robbins_monro=True)
    assert rate(falling, 1000, 1000) == pytest.approx(1e-2 / 5**0.75)


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
