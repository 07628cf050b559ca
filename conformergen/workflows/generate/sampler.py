"""Network passes over a block of molecules, with verification and redraws."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np

from conformergen.chem import MACROCYCLE, TorsionSettings, fill, largest_ring
from conformergen.errors import MoleculeError
from conformergen.records import RUNGS, ConformerSet, Molecule
from conformergen.workflows.generate.settings import GenerateSettings
from conformergen.workflows.rounds import is_valid

if TYPE_CHECKING:
    from conformergen.sampling import SamplingJob

#: What is emitted of ranked samples: the window of the ranker's energies, kcal/mol. Of macrocycles more: the ranker
#: has seen none.
_RANKED_WINDOW: Final = 4.0
_MACROCYCLE_WINDOW: Final = 10.0
#: Repeats are drawn with probability falling as exp(-E/temperature); kcal/mol, what the ranker is off by.
RANKED_TEMPERATURE: Final = 1.0
#: Share of the conformers that are different ones, if need be from a wider window: who asks for many wants many.
RANKED_DIFFERENT: Final = 0.5
#: Atom pairs in a batch on a GPU: enough to hide the launch of kernels.
_CUDA_PAIR_BUDGET: Final = 1_600_000
#: Draws of a conformer before its seed is emitted instead.
_ATTEMPTS: Final = 3
_REDRAWN, _SEED = RUNGS.index("redrawn"), RUNGS.index("seed")


class ModelSampler:
    """Network passes over a block of molecules, with verification and redraws."""

    def __init__(self, settings: GenerateSettings) -> None:
        from conformergen.checkpoint import load_model
        from conformergen.sampling import SamplingSettings
        from conformergen.workflows.devices import limit_threads, resolve_device

        limit_threads()
        self.settings = settings
        self.device = resolve_device(settings.device)
        self.model = load_model(settings.checkpoint, device=self.device)
        self.seeder = settings.seeds
        if settings.seeds == "auto":
            self.seeder = "torsion+mmff94s" if self.model.seeds_mmff94s else "etkdg"
        self.ranks = self.seeder == "torsion+mmff94s" and self.model.ranker is not None
        #: With a ranker each evaluation is a round; without one they are the steps of one integration.
        self.rounds = settings.steps if self.ranks else 1
        self.sampling = SamplingSettings(sampler=settings.sampler, steps=1 if self.ranks else settings.steps)
        if self.device.type == "cuda":
            self.sampling = replace(self.sampling, pair_budget=_CUDA_PAIR_BUDGET)

    def __call__(
        self,
        sets: list[tuple[ConformerSet, int]],
        count: Callable[..., None],
        settle: Callable[[list[ConformerSet]], Iterable[ConformerSet | MoleculeError]],
    ) -> list[ConformerSet]:
        """Replace each set of seeds by as many verified samples as asked for.

        With a ranker every candidate is sampled in rounds, and it picks among the samples of the last: repeats and
        mirror images are those of a sample. Without, every conformer has a sample of its own.

        Args:
            sets: Seeds of each molecule, and how many conformers are asked for.
            count: Takes the books' numbers.
            settle: Makes the seeds of the next round of samples, ``rounds.settled`` for each set; an error keeps them.
        """
        seeds = [s if self._ranked(s) else s.select(np.resize(np.arange(len(s)), n)) for s, n in sets]
        samples = self._sampled(seeds, count)
        again = [i for i, s in enumerate(seeds) if self._ranked(s)]
        for _ in range(self.rounds - 1):
            made = [replace(seeds[i], positions=samples[i].positions) for i in again]
            kept = [(i, s) for i, s in zip(again, settle(made), strict=True) if not isinstance(s, MoleculeError)]
            again = [i for i, _ in kept]
            for (i, s), sampled in zip(kept, self._sampled([s for _, s in kept], count), strict=True):
                seeds[i], samples[i] = s, sampled
        emitted = []
        for sampled, used, (_, n) in zip(samples, seeds, sets, strict=True):
            emitted.append(self._emitted(sampled, used, n))
            count(fallback=int(np.count_nonzero(emitted[-1].rungs == _SEED)))
        return emitted

    def _ranked(self, candidates: ConformerSet) -> bool:
        return self.ranks and candidates.energies is not None

    def _emitted(self, samples: ConformerSet, seeds: ConformerSet, n: int) -> ConformerSet:
        """The ``n`` that the ranker thinks best; without one the samples as they are."""
        from conformergen.datasets.ranked import RankedSet
        from conformergen.sampling.ranking import predict_energies

        if not self._ranked(seeds):
            return samples
        assert self.model.ranker is not None
        assert seeds.energies is not None
        ranked = RankedSet(conformers=samples, baseline=seeds.energies)
        energies = predict_energies(self.model.ranker, ranked, pair_budget=self.sampling.pair_budget)
        window = self.settings.ewin or _window(samples.molecule)
        different = 0.0 if self.settings.ewin else RANKED_DIFFERENT
        search = TorsionSettings(window=window, temperature=RANKED_TEMPERATURE, different=different)
        filling = fill(samples.molecule, energies, n, seed=self.settings.seed, settings=search)
        return replace(samples.select(filling.rows), positions=filling.of(samples.positions))

    def _sampled(self, seeds: list[ConformerSet], count: Callable[..., None]) -> list[ConformerSet]:
        """A verified sample of each seed, or the seed where no draw is right; rungs are the lower of both."""
        positions = [s.positions.copy() for s in seeds]
        rungs = [np.full(len(s), _SEED, dtype=np.uint8) for s in seeds]
        waiting = [np.arange(len(s)) for s in seeds]
        for attempt in range(_ATTEMPTS):
            if not any(map(len, waiting)):
                break
            if attempt:
                count(redrawn=sum(map(len, waiting)))
            drawn = self._drawn(seeds, waiting, attempt)
            for index, rows in enumerate(waiting):
                if len(rows) == 0:
                    continue
                good = is_valid(drawn[index], seeds[index].molecule)
                positions[index][rows[good]] = drawn[index][good]
                rungs[index][rows[good]] = min(attempt, _REDRAWN)
                waiting[index] = rows[~good]
        return [
            ConformerSet(molecule=s.molecule, positions=p, rungs=r if s.rungs is None else np.maximum(r, s.rungs))
            for s, p, r in zip(seeds, positions, rungs, strict=True)
        ]

    def _drawn(self, seeds: list[ConformerSet], waiting: list[np.ndarray], attempt: int) -> list[np.ndarray]:
        """One draw for the waiting rows of each set; NaN where memory does not suffice for it."""
        from conformergen.sampling import SamplingJob, sample_batch, sample_in_memory

        places = [(index, place) for index, rows in enumerate(waiting) for place in range(len(rows))]
        jobs = [
            SamplingJob(molecule=s.molecule, conformer=row, seed_positions=s.positions[row], attempt=attempt)
            for s, row in ((seeds[index], int(waiting[index][place])) for index, place in places)
        ]
        sample = partial(
            sample_batch,
            self.model.network,
            self.model.diffusion,
            settings=self.sampling,
            seed=self.settings.seed,
            device=self.device,
        )
        drawn = [np.full_like(s.positions[rows], np.nan) for s, rows in zip(seeds, waiting, strict=True)]
        for batch in self._batches(jobs, [index for index, _ in places]):
            for i, positions in zip(batch, sample_in_memory(sample, [jobs[i] for i in batch]), strict=True):
                if positions is not None:
                    index, place = places[i]
                    drawn[index][place] = positions
        return drawn

    def _batches(self, jobs: "list[SamplingJob]", owners: list[int]) -> list[list[int]]:
        """Indices of jobs: on a CPU no batch holds two molecules, so that the bytes do not depend on the others."""
        from conformergen.sampling import plan_batches

        groups: dict[int, list[int]] = {}
        for i, owner in enumerate(owners):
            groups.setdefault(owner if self.device.type == "cpu" else 0, []).append(i)
        batches = []
        for group in groups.values():
            sizes = [jobs[i].molecule.graph.n_atoms for i in group]
            batches += [[group[i] for i in batch] for batch in plan_batches(sizes, self.sampling.pair_budget)]
        return batches


def _window(molecule: Molecule) -> float:
    return _MACROCYCLE_WINDOW if largest_ring(molecule.smiles) >= MACROCYCLE else _RANKED_WINDOW
