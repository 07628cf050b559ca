"""Tests of ``conformergen.geometry.rotations``."""

import torch

from conformergen.geometry.rotations import haar_rotations


def test_rotations_are_uniform_and_proper():
    rotations = haar_rotations(torch.randn(20_000, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    assert torch.allclose(rotations @ rotations.mT, torch.eye(3, dtype=torch.float64).expand(20_000, 3, 3), atol=1e-10)
    assert torch.allclose(torch.linalg.det(rotations), torch.ones(20_000, dtype=torch.float64))
    axis = rotations[:, :, 0]
    assert torch.allclose((axis[:, :, None] * axis[:, None]).mean(0), torch.eye(3).double() / 3, atol=0.02)
