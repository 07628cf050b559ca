"""Projector, unit gain, tap and the recurrent state on a least-squares toy with a known gap."""

import math

import pytest
import torch
from e3nn import o3

from conformergen.nn.relaxation import RELAXATION_MODES, HaarComplement, RelaxationSettings, RelaxedBranch
from conformergen.nn.relaxation.recm import RecurrentModulation, rate

PAIRS = [("5x0e", "4x1o"), ("5x1o", "4x0e"), ("5x1o", "4x1o"), ("3x1o", "2x2e"), ("3x2e", "4x2e")]


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


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_haar_mean_of_the_complement_is_zero(source, target):
    torch.manual_seed(0)
    block = HaarComplement(o3.Irreps(source), o3.Irreps(target), rank=3).double()
    w = block.matrix().detach()
    (m_in, ir_in), (m_out, ir_out) = block_irreps(source), block_irreps(target)
    rotations = _icosahedral()
    assert len(rotations) == 60
    mean = torch.zeros_like(w)
    for r in rotations:
        d_in, d_out = (_wigner(ir, r) for ir in (ir_in, ir_out))
        eye_in, eye_out = torch.eye(m_in, dtype=torch.float64), torch.eye(m_out, dtype=torch.float64)
        mean += torch.kron(d_out.T.contiguous(), eye_out) @ w @ torch.kron(d_in.contiguous(), eye_in) / len(rotations)
    assert mean.abs().max() < 1e-12


def block_irreps(text):
    entry = o3.Irreps(text)[0]
    return entry.mul, entry.ir


def _wigner(ir, r):
    """D^l(r) from the spherical harmonics themselves: D Y(x) = Y(r x)."""
    if ir.l == 0:
        return torch.ones(1, 1, dtype=torch.float64)
    x = torch.randn(40, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    before = o3.spherical_harmonics(ir.l, x, normalize=True)
    after = o3.spherical_harmonics(ir.l, x @ r.T, normalize=True)
    return torch.linalg.lstsq(before, after).solution.T


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_low_rank_form_is_the_dense_matrix_at_unit_gain(source, target):
    torch.manual_seed(0)
    block = HaarComplement(o3.Irreps(source), o3.Irreps(target), rank=3).double()
    w = block.matrix()
    z = torch.randn(6, block.d_in, block.mul_in, dtype=torch.float64)
    assert torch.allclose(block(z).flatten(1), z.flatten(1) @ w.T, atol=1e-12)
    assert math.isclose(float(w.square().sum()), block.d_out * block.mul_out, rel_tol=1e-10)


def test_tap_gives_the_derivative_by_beta():
    torch.manual_seed(0)
    branch = RelaxedBranch([o3.Irreps("3x0e"), o3.Irreps("3x1o")], sources=[0, 1], rank=2, state=0.2, beta=0.2).double()
    branch.scale.fill_(1.7)
    x = [torch.randn(9, 1, 3, dtype=torch.float64), torch.randn(9, 3, 3, dtype=torch.float64)]
    f = [torch.randn_like(x[0]), torch.randn_like(x[1])]

    def loss():
        out = branch(x, f, torch.ones(9, 1, 1, dtype=torch.float64))
        return sum(((o - 1.0) ** 2).sum() for o in out)

    branch.train()
    loss().backward()
    taps = branch.sums[:, 0].clone()
    step = 1e-5
    for index in range(len(branch.specs)):
        branch.beta[index] += step
        with torch.no_grad():
            up = loss()
        branch.beta[index] -= 2 * step
        with torch.no_grad():
            down = loss()
        branch.beta[index] += step
        derivative = (up - down) / (2 * step)
        assert math.isclose(float(-derivative / branch.scale[index]), float(taps[index]), rel_tol=1e-3)


def _toy(epsilon: float, steps: int = 500) -> float:
    """Final beta x scale of a vector-to-vector block; the teacher breaks equivariance by epsilon at unit gain."""
    torch.manual_seed(1)
    n, batch = 6, 64
    a = torch.randn(n, n) / n**0.5
    m = torch.randn(3 * n, 3 * n)
    t = torch.einsum("aiaj->ij", m.view(3, n, 3, n)) / 3
    m = m - torch.kron(torch.eye(3), t)
    m *= 18**0.5 / m.norm()
    settings = RelaxationSettings(lam=1e-2, h0=0.2, rank=18, close_at=1.0)
    branch = RelaxedBranch([o3.Irreps(f"{n}x1o")], sources=[0], rank=18, state=0.2, beta=math.tanh(0.2)).train()
    f = torch.nn.Linear(n, n, bias=False)
    mode = RecurrentModulation(settings, total_steps=10 * steps)
    optimizer = torch.optim.Adam([*f.parameters(), *branch.parameters()], lr=1e-2)
    levels = []
    for step in range(steps):
        x = torch.randn(batch, 3, n)
        target = x @ a.T + epsilon * (x.flatten(1) @ m.T).view_as(x) + 0.1 * torch.randn_like(x)
        (y,) = branch([x], [f(x)], torch.ones(batch, 1, 1))
        optimizer.zero_grad()
        (y - target).square().mean().backward()
        mode.update([branch], step=step)
        optimizer.step()
        levels.append(float(branch.beta * branch.scale))
    return sum(levels[-200:]) / 200


def test_levels_close_without_a_gap_and_follow_the_gap():
    closed, small, large = _toy(0.0), _toy(0.1), _toy(0.4)
    assert closed < 2e-3
    assert abs(small - 0.094) < 0.02
    assert abs(large - 0.387) < 0.02


def test_rate_follows_the_length_of_the_run():
    settings = RelaxationSettings()
    assert rate(settings, 1000) == 1e-2
    assert rate(settings, 100_000) == pytest.approx(5e-4)
    assert rate(RelaxationSettings(lam=0.3), 10) == 0.3


def test_last_tenth_is_equivariant():
    branch = RelaxedBranch([o3.Irreps("2x1o")], sources=[0], rank=1, state=0.2, beta=0.2)
    mode = RELAXATION_MODES["recm"](RelaxationSettings(), total_steps=10)
    mode.update([branch], step=9)
    assert float(branch.beta.max()) == 0.0
