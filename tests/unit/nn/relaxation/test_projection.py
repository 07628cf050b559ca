"""Tests of ``conformergen.nn.relaxation.projection``."""

import math

import pytest
import torch
from e3nn import o3

from conformergen.geometry.rotations import haar_rotations
from conformergen.nn.relaxation import (
    haar_mean,
)


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
