"""Tests of ``conformergen.diffusion.paths``."""

import pytest
import torch

from conformergen.diffusion import PATHS


@pytest.mark.parametrize("name", PATHS)
def test_paths_end_at_the_data(name):
    path = PATHS[name](sigma=0.7, sigma_data=1.0)
    levels = path.noise_levels(5)
    assert len(levels) == 6
    assert float(levels[-1]) == 0.0
    assert (levels[:-1] > levels[1:]).all()
    anchor, noise, data = torch.randn(3, 2, 4, 3)
    assert torch.allclose(path.mix(anchor, noise, data, torch.zeros(2)), data)
