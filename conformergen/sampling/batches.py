"""Batches over all molecules, with noise keyed by (seed, molecule, conformer)."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from conformergen.datasets.collate import collate_graphs, molecule_tables, pad_positions
from conformergen.diffusion import PRIORS, DiffusionSettings, Network, denoise
from conformergen.errors import InputError
from conformergen.geometry.rotations import centre, haar_rotations
from conformergen.records import Molecule
from conformergen.sampling.samplers import SAMPLERS


@dataclass(frozen=True, kw_only=True)
class SamplingSettings:
    """How a trained model is run; never taken from a checkpoint.

    Attributes:
        sampler: Entry of ``SAMPLERS``.
        steps: Integration steps.
        pair_budget: Padded atom pairs in one batch.
    """

    sampler: str = "euler"
    steps: int = 5
    pair_budget: int = 100_000

    def __post_init__(self) -> None:
        if self.sampler not in SAMPLERS:
            raise InputError(f"sampler {self.sampler!r} is not one of {', '.join(SAMPLERS)}")
        if self.steps < 1 or self.pair_budget < 1:
            raise InputError("steps and pair_budget must be at least 1")


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class SamplingJob:
    """One conformer to make.

    Attributes:
        molecule: Species.
        conformer: Index among the molecule's conformers; part of the key of its noise.
        start_positions: Seed conformer, or None for priors without one.
        attempt: Raised when a conformer is drawn again.
    """

    molecule: Molecule
    conformer: int
    start_positions: Float32[np.ndarray, "atom 3"] | None = None
    attempt: int = 0


def noise_stream(seed: int, job: SamplingJob) -> np.random.Generator:
    """Counter-based generator of one conformer: independent of batch, order and worker."""
    text = job.molecule.key + f"|{seed}|{job.conformer}|{job.attempt}|noise".encode()
    key = int.from_bytes(hashlib.sha256(text).digest()[:16], "little")
    return np.random.Generator(np.random.Philox(key=key))


def plan_batches(sizes: Sequence[int], pair_budget: int) -> list[list[int]]:
    """Indices of jobs, sorted by size, cut into batches of at most ``pair_budget`` padded atom pairs."""
    batches: list[list[int]] = []
    for index in sorted(range(len(sizes)), key=lambda i: (sizes[i], i)):
        n = sizes[index]
        if batches and (len(batches[-1]) + 1) * n * n <= pair_budget:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches


@torch.inference_mode()
def sample_batch(
    network: Network,
    diffusion: DiffusionSettings,
    jobs: Sequence[SamplingJob],
    settings: SamplingSettings,
    *,
    seed: int,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    frame: Tensor | None = None,
) -> list[Float32[np.ndarray, "_ 3"]]:
    """Positions of each job in Å; ``frame`` (3, 3) rotates all noise and starts, and so an equivariant result."""
    rotation = torch.eye(3, device=device, dtype=dtype) if frame is None else frame.to(device, dtype).T
    graph = collate_graphs([molecule_tables(job.molecule) for job in jobs]).to(device)
    n = graph.mask.shape[1]
    streams = [noise_stream(seed, job) for job in jobs]

    def normal() -> Tensor:
        drawn = [s.standard_normal((job.molecule.graph.n_atoms, 3)) for s, job in zip(streams, jobs, strict=True)]
        return pad_positions([d.astype(np.float32) for d in drawn], n).to(device, dtype) @ rotation

    given = [job.start_positions for job in jobs if job.start_positions is not None]
    starts = pad_positions(given, n).to(device, dtype) @ rotation if len(given) == len(jobs) else None
    path = diffusion.make_path()
    anchor, noise = PRIORS[diffusion.prior](graph, normal(), starts)

    def denoiser(x: Tensor, noise_level: float) -> Tensor:
        return denoise(network, path, graph, x, x.new_full((len(jobs),), noise_level))

    x = SAMPLERS[settings.sampler](
        denoiser,
        path.start(anchor, noise),
        path.noise_levels(settings.steps).tolist(),
        path=path,
        noise=lambda: centre(normal(), graph),
    )
    result = x.float().cpu().numpy()
    return [result[i, : job.molecule.graph.n_atoms].copy() for i, job in enumerate(jobs)]


def sample_in_memory(
    sample: Callable[[Sequence[SamplingJob]], list[Float32[np.ndarray, "_ 3"]]], jobs: Sequence[SamplingJob]
) -> list[Float32[np.ndarray, "_ 3"] | None]:
    """What ``sample`` makes of a batch, halved where memory runs out; None for a job that does not fit alone."""
    try:
        return [*sample(jobs)]
    except (MemoryError, RuntimeError) as error:
        # torch names the device's allocator in a RuntimeError; for CUDA it has a class of its own.
        if not isinstance(error, (MemoryError, torch.OutOfMemoryError)) and "allocate memory" not in str(error):
            raise
    if len(jobs) == 1:
        return [None]
    middle = len(jobs) // 2
    return sample_in_memory(sample, jobs[:middle]) + sample_in_memory(sample, jobs[middle:])


def equivariance_error(
    network: Network,
    diffusion: DiffusionSettings,
    jobs: Sequence[SamplingJob],
    settings: SamplingSettings,
    *,
    seed: int,
    device: torch.device | str = "cpu",
) -> float:
    """RMS distance in Å between conformers sampled in a turned frame and turned conformers, over all atoms.

    Initial and later noise and starts are rotated by one random rotation: zero, up to rounding, for an equivariant
    sampler, however many steps it takes.
    """
    rotation = haar_rotations(torch.randn(1, 4, generator=torch.Generator().manual_seed(seed)))[0]
    unrotated = sample_batch(network, diffusion, jobs, settings, seed=seed, device=device)
    rotated = sample_batch(network, diffusion, jobs, settings, seed=seed, device=device, frame=rotation)
    wanted = [p @ rotation.numpy().T for p in unrotated]
    squares = np.concatenate([((t - w) ** 2).sum(-1) for t, w in zip(rotated, wanted, strict=True)])
    return float(np.sqrt(squares.mean()))
