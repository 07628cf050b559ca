"""The loop between network and force field: rounds of sampling, restrained minimisation, and sampling again.

The network is trained to move force-field minima to GFN2-xTB minima. Its sample, minimised with MMFF94s while its
torsions are restrained, is again such a start, nearer to the goal than the one before. This is the only loop of rounds:
``generate``, ``train-ranker`` and the benchmarks call ``run_rounds``.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64

from conformergen.checkpoint.model import Model
from conformergen.errors import InputError, MoleculeError
from conformergen.generation.samples import Samples, is_valid, minimise_samples
from conformergen.nn.energy import EnergyNetwork
from conformergen.records import Fallback
from conformergen.runtime.workers import Mapper
from conformergen.sampling import SamplingJob, SamplingSettings, plan_batches, sample_batch, sample_in_memory
from conformergen.sampling.energies import predict_energies

#: Rounds by default; a fourth round changes nothing (``experiments/14-rounds.md``).
ROUNDS: Final = 3
#: Network evaluations in the final round: the second one removes half a kcal/mol of strain.
FINAL_EVALUATIONS: Final = 2
#: Samples drawn from one start before the start itself is returned.
_MAX_DRAWS: Final = 3
#: Time limit of the minimisation of one molecule between two rounds, seconds of wall time.
_TIMEOUT: Final = 600.0
#: Atom pairs in a batch on a GPU: enough to hide the launch of kernels.
_CUDA_PAIR_BUDGET: Final = 1_600_000


@dataclass(frozen=True, kw_only=True)
class RoundSettings:
    """How a model is run.

    Attributes:
        rounds: Number of rounds; each but the final one takes one network evaluation.
        final_evaluations: Network evaluations in the final round.
        sampler: Entry of ``sampling.SAMPLERS``.
        seed: Seed of all random numbers.
    """

    rounds: int = ROUNDS
    final_evaluations: int = FINAL_EVALUATIONS
    sampler: str = "euler"
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.rounds, self.final_evaluations) < 1:
            raise InputError("rounds and evaluations must be at least 1", setting="rounds")

    def sampling(self, device: torch.device, *, final: bool = True) -> SamplingSettings:
        """Settings of the network passes of one round."""
        steps = self.final_evaluations if final else 1
        return SamplingSettings(sampler=self.sampler, steps=steps, pair_budget=_pair_budget(device))


def round_settings(
    *, ranked: bool, rounds: int = ROUNDS, steps: int | None = None, sampler: str = "euler", seed: int = 0
) -> RoundSettings:
    """Rounds and evaluations of a model as ``generate`` runs it.

    A model with a ranker takes one evaluation in each round and ``FINAL_EVALUATIONS`` in the final one. A model without
    a ranker has one round, in which all evaluations are steps of one integration.

    Args:
        ranked: Whether the model has a ranker and starts from force-field minima.
        rounds: Number of rounds.
        steps: Network evaluations in all, which then determine the number of rounds; ``rounds + 1`` by default.
        sampler: Entry of ``sampling.SAMPLERS``.
        seed: Seed of all random numbers.
    """
    evaluations = rounds + 1 if steps is None else steps
    if evaluations < 1:
        raise InputError("must be at least 1", setting="steps")
    return RoundSettings(
        rounds=max(1, evaluations - 1) if ranked else 1,
        final_evaluations=min(evaluations, FINAL_EVALUATIONS) if ranked else evaluations,
        sampler=sampler,
        seed=seed,
    )


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class _Track:
    """One molecule between two rounds: its newest starts and samples, and whether there is a further round for it."""

    starts: Samples
    samples: Samples
    active: bool

    def select(self, rows: Int64[np.ndarray, " selected"]) -> "_Track":
        return replace(self, starts=self.starts.select(rows), samples=self.samples.select(rows))


def run_rounds(
    model: Model,
    starts: Sequence[Samples],
    settings: RoundSettings,
    *,
    workers: Mapper,
    device: torch.device | str = "cpu",
    count: Callable[..., None] = lambda **counts: None,
) -> list[Samples]:
    """Verified samples of each molecule after all rounds.

    In each round every start is moved by the network. A sample that is not finite, has a broken bond or the wrong
    stereo is drawn again; after three draws its start takes its place. Between two rounds the samples are minimised
    with MMFF94s under torsion restraints. Only the best-ranked ``n_final`` samples of a molecule enter the final round.
    Molecules whose starts have no MMFF94s energies, or whose minimisation fails, take part in no further round.

    Args:
        model: Denoiser and, where fewer than all samples may enter the final round, ranker.
        starts: Start structures of each molecule.
        settings: Rounds and evaluations.
        workers: Runs the minimisations.
        device: Device of the networks.
        count: Called with ``redrawn=`` for samples that are drawn again.
    """
    draw = _Draw(model, settings, torch.device(device), count)
    samples = draw(starts, final=settings.rounds == 1)
    tracks = [
        _Track(starts=s, samples=drawn, active=s.mmff_energies is not None)
        for s, drawn in zip(starts, samples, strict=True)
    ]
    for further in range(1, settings.rounds):
        final = further == settings.rounds - 1
        advanced = iter(_advance([t for t in tracks if t.active], model.ranker, draw, workers, final=final))
        tracks = [next(advanced) if t.active else t for t in tracks]
    return [t.samples for t in tracks]


def _advance(
    tracks: list[_Track], ranker: EnergyNetwork | None, draw: "_Draw", workers: Mapper, *, final: bool
) -> list[_Track]:
    """Minimise the samples under restraints and draw the next ones; what cannot be minimised keeps its samples."""
    if final:
        tracks = [t.select(top_ranked(ranker, t.samples)) for t in tracks]
    results = workers.map(
        minimise_samples, [replace(t.starts, positions=t.samples.positions) for t in tracks], timeout=_TIMEOUT
    )
    outcomes = list(zip(tracks, results, strict=True))
    drawn = iter(draw([r for _, r in outcomes if not isinstance(r, MoleculeError)], final=final))
    return [
        replace(track, active=False)
        if isinstance(result, MoleculeError)
        else _Track(starts=result, samples=next(drawn), active=True)
        for track, result in outcomes
    ]


def top_ranked(ranker: EnergyNetwork | None, samples: Samples) -> Int64[np.ndarray, " selected"]:
    """Indices, in rising order, of the ``n_final`` samples with the lowest predicted energies.

    Raises:
        ValueError: When samples have to be left out and there is no ranker.
    """
    if len(samples) <= samples.n_final:
        return np.arange(len(samples))
    if ranker is None:
        raise ValueError("a model without a ranker cannot choose the samples of the final round")
    order = np.argsort(ranked_energies(ranker, samples), kind="stable")
    return np.sort(order[: samples.n_final])


def ranked_energies(ranker: EnergyNetwork, samples: Samples) -> Float64[np.ndarray, " conf"]:
    """GFN2-xTB energies that the ranker predicts for the minima of the samples, kcal/mol, up to a constant."""
    assert samples.mmff_energies is not None
    budget = _pair_budget(next(ranker.parameters()).device)
    return predict_energies(ranker, samples.molecule, samples.positions, samples.mmff_energies, pair_budget=budget)


def _pair_budget(device: torch.device) -> int:
    """Padded atom pairs in one batch."""
    return _CUDA_PAIR_BUDGET if device.type == "cuda" else SamplingSettings.pair_budget


class _Draw:
    """Draws one verified sample from each start."""

    def __init__(self, model: Model, settings: RoundSettings, device: torch.device, count: Callable[..., None]) -> None:
        self._model, self._settings, self._device, self._count = model, settings, device, count

    def __call__(self, starts: Sequence[Samples], *, final: bool) -> list[Samples]:
        """A valid sample of each start, or the start itself where every draw fails."""
        sampling = self._settings.sampling(self._device, final=final)
        positions = [s.positions.copy() for s in starts]
        fallback = [np.full(len(s), Fallback.START, dtype=np.uint8) for s in starts]
        missing = [np.arange(len(s)) for s in starts]
        for attempt in range(_MAX_DRAWS):
            if not any(map(len, missing)):
                break
            if attempt:
                self._count(redrawn=sum(map(len, missing)))
            drawn = self._attempt(starts, missing, attempt, sampling)
            for index, rows in enumerate(missing):
                if len(rows) == 0:
                    continue
                good = is_valid(drawn[index], starts[index].molecule.graph)
                positions[index][rows[good]] = drawn[index][good]
                fallback[index][rows[good]] = min(attempt, Fallback.REDRAWN)
                missing[index] = rows[~good]
        return [
            replace(s, positions=p, fallback=np.maximum(f, s.fallback))
            for s, p, f in zip(starts, positions, fallback, strict=True)
        ]

    def _attempt(
        self, starts: Sequence[Samples], missing: list[np.ndarray], attempt: int, sampling: SamplingSettings
    ) -> list[Float32[np.ndarray, "_ _ 3"]]:
        """One draw for the missing rows of each molecule; NaN where the memory of the device does not suffice."""
        places = [(index, place) for index, rows in enumerate(missing) for place in range(len(rows))]
        jobs = [
            SamplingJob(
                molecule=starts[index].molecule,
                conformer=int(missing[index][place]),
                start_positions=starts[index].positions[missing[index][place]],
                attempt=attempt,
            )
            for index, place in places
        ]
        sample = partial(
            sample_batch,
            self._model.network,
            self._model.diffusion,
            settings=sampling,
            seed=self._settings.seed,
            device=self._device,
        )
        drawn = [np.full_like(s.positions[rows], np.nan) for s, rows in zip(starts, missing, strict=True)]
        for batch in self._batches(jobs, [index for index, _ in places], sampling.pair_budget):
            for i, positions in zip(batch, sample_in_memory(sample, [jobs[i] for i in batch]), strict=True):
                if positions is not None:
                    index, place = places[i]
                    drawn[index][place] = positions
        return drawn

    def _batches(self, jobs: list[SamplingJob], owners: list[int], pair_budget: int) -> list[list[int]]:
        """Indices of jobs; on a CPU no batch holds two molecules, so that results do not depend on the others."""
        groups: dict[int, list[int]] = {}
        for i, owner in enumerate(owners):
            groups.setdefault(owner if self._device.type == "cpu" else 0, []).append(i)
        batches = []
        for group in groups.values():
            sizes = [jobs[i].molecule.graph.n_atoms for i in group]
            batches += [[group[i] for i in batch] for batch in plan_batches(sizes, pair_budget)]
        return batches
