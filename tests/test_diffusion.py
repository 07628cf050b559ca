import numpy as np
import pytest
import torch

from conformergen.chem import molecule_from_smiles
from conformergen.datasets.collate import collate_graphs, molecule_tables
from conformergen.diffusion import LOSSES, PATHS, PRIORS
from conformergen.geometry.rotations import centre, haar_rotations
from conformergen.sampling import SAMPLERS, SamplingJob, plan_batches
from conformergen.sampling.batches import noise_stream


@pytest.fixture
def graph():
    return collate_graphs([molecule_tables(molecule_from_smiles(s)) for s in ("CCO", "c1ccccc1")])


@pytest.mark.parametrize("name", PRIORS)
def test_prior_is_centred_and_leaves_padding_alone(name, graph):
    normal = torch.randn(*graph.mask.shape, 3)
    anchor, noise = PRIORS[name](graph, normal, torch.randn_like(normal))
    for part in (anchor, noise):
        assert part[~graph.mask].abs().max() < 1e-5
        assert part.sum(1).abs().max() < 1e-4


def test_harmonic_prior_keeps_bonded_atoms_together(graph):
    rng = torch.Generator().manual_seed(0)
    samples = [PRIORS["harmonic"](graph, torch.randn(*graph.mask.shape, 3, generator=rng), None)[1] for _ in range(300)]
    x = torch.stack(samples)[:, 1]
    bonded = (x[:, 0] - x[:, 1]).square().sum(-1).mean()
    opposite = (x[:, 0] - x[:, 3]).square().sum(-1).mean()
    assert bonded < 0.7 * opposite


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


@pytest.mark.parametrize("name", PATHS)
def test_paths_end_at_the_data(name):
    path = PATHS[name](sigma=0.7, sigma_data=1.0)
    levels = path.noise_levels(5)
    assert len(levels) == 6
    assert float(levels[-1]) == 0.0
    assert (levels[:-1] > levels[1:]).all()
    anchor, noise, data = torch.randn(3, 2, 4, 3)
    assert torch.allclose(path.mix(anchor, noise, data, torch.zeros(2)), data)


@pytest.mark.parametrize("name", LOSSES)
def test_losses_vanish_at_the_data_only(name, graph):
    data = centre(torch.randn(*graph.mask.shape, 3), graph)
    weight = torch.tensor([1.0, 3.0])
    assert LOSSES[name](data, data, graph, weight).abs().max() < 1e-6
    assert (LOSSES[name](data + 0.3 * graph.mask[..., None], data, graph, weight) > 0).all()


def test_rotations_are_uniform_and_proper():
    rotations = haar_rotations(torch.randn(20_000, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    assert torch.allclose(rotations @ rotations.mT, torch.eye(3, dtype=torch.float64).expand(20_000, 3, 3), atol=1e-10)
    assert torch.allclose(torch.linalg.det(rotations), torch.ones(20_000, dtype=torch.float64))
    axis = rotations[:, :, 0]
    assert torch.allclose((axis[:, :, None] * axis[:, None]).mean(0), torch.eye(3).double() / 3, atol=0.02)


def test_noise_is_keyed_by_conformer_alone():
    molecule = molecule_from_smiles("CCO")
    first = noise_stream(1, SamplingJob(molecule=molecule, conformer=0)).standard_normal(4)
    again = noise_stream(1, SamplingJob(molecule=molecule, conformer=0)).standard_normal(4)
    other = noise_stream(1, SamplingJob(molecule=molecule, conformer=1)).standard_normal(4)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_batches_respect_the_budget_and_hold_every_job():
    sizes = [5, 30, 8, 30, 100, 7]
    batches = plan_batches(sizes, 2000)
    assert sorted(i for b in batches for i in b) == list(range(6))
    assert all(len(b) == 1 or len(b) * max(sizes[i] for i in b) ** 2 <= 2000 for b in batches)
