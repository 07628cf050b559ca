"""Tests of ``conformergen.sampling.samplers``."""

from dataclasses import replace

import pytest
import torch
from e3nn import o3
from support import KINDS, network_and_batch, relative_error

from conformergen.diffusion import PATHS, denoise
from conformergen.sampling import SAMPLERS


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("name", PATHS)
def test_samplers_carry_a_gaussian_to_its_data(name, sampler):
    """Data at one point: the exact denoiser is that point, and every sampler must land on it."""
    path = PATHS[name](sigma=1.0, sigma_data=1.0)
    target = torch.tensor([1.0, -2.0, 0.5]).expand(2, 4, 3)
    out = SAMPLERS[sampler](
        lambda x, level: target,
        torch.randn(2, 4, 3),
        path.noise_levels(6).tolist(),
        path=path,
        noise=lambda: torch.zeros(2, 4, 3),
    )
    assert torch.allclose(out, target, atol=1e-6)


def test_heun_is_second_order_on_an_exact_flow():
    """Unit Gaussian data under the EDM path: D(x) = x / (1 + u^2), solution x = x0 sqrt((1+u^2)/(1+u0^2))."""
    start, exact = torch.ones(1, 1, 3), 1.0 / 2**0.5
    errors = {}
    for name in ("euler", "heun"):
        for n in (20, 40):
            levels = torch.linspace(1.0, 0.0, n + 1).tolist()
            path = PATHS["edm"](sigma=1.0, sigma_data=1.0)
            out = SAMPLERS[name](lambda x, u: x / (1 + u * u), start, levels, path=path, noise=lambda: start)
            errors[name, n] = abs(float(out[0, 0, 0]) - exact)
    assert errors["euler", 20] / errors["euler", 40] < 2.5
    assert errors["heun", 40] < 0.1 * errors["euler", 40]


@pytest.mark.parametrize("backbone", KINDS)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_whole_sampler_is_equivariant(ensembles, backbone, sampler):
    network, graph, x = network_and_batch(ensembles, backbone, torch.float64)
    path = PATHS["linear"](sigma=0.1, sigma_data=1.0)
    rotation = o3.rand_matrix(dtype=torch.float64).to(torch.float64)

    def run(graph, start, turn):
        rng = torch.Generator().manual_seed(3)
        return SAMPLERS[sampler](
            lambda x, level: denoise(network, path, graph, x, x.new_full((len(x),), level)),
            start @ turn,
            path.noise_levels(4).tolist(),
            path=path,
            noise=lambda: torch.randn(x.shape, generator=rng, dtype=torch.float64) @ turn,
        )

    plain = run(graph, x, torch.eye(3, dtype=torch.float64))
    assert relative_error(run(graph, x, rotation.T), plain @ rotation.T) < 1e-10
    mirrored = replace(graph, handedness=-graph.handedness)
    assert relative_error(run(mirrored, x, -torch.eye(3, dtype=torch.float64)), -plain) < 1e-10
