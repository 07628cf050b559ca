"""Network passes over a block of molecules, with verification and redraws."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np

from conformergen.chem import MACROCYCLE, TorsionSettings, distinct, fill, largest_ring
from conformergen.errors import MoleculeError
from conformergen.records import RUNGS, ConformerSet, Molecule
from conformergen.workflows.generate.settings import GenerateSettings
from conformergen.workflows.rounds import is_valid

if TYPE_CHECKING:
    from conformergen.sampling import SamplingJob, SamplingSettings

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
#: Evaluations in the last round: the second takes half a kcal/mol of strain.
_LAST: Final = 2
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
        #: With a ranker each evaluation is a round, but for two in the last; without one all are steps of one
        #: integration.
        self.rounds = max(1, settings.steps - 1) if self.ranks else 1
        steps = min(settings.steps, _LAST) if self.ranks else settings.steps
        self.sampling = SamplingSettings(sampler=settings.sampler, steps=steps)
        if self.device.type == "cuda":
            self.sampling = replace(self.sampling, pair_budget=_CUDA_PAIR_BUDGET)

    def __call__(
        self,
        sets: list[tuple[ConformerSet, int]],
        count: Callable[..., None],
        settle: Callable[[list[ConformerSet]], Iterable[ConformerSet | MoleculeError]],
    ) -> list[ConformerSet]:
        """Replace each set of seeds by as many verified samples as asked for.

        With a ranker candidates are sampled in rounds, in the last as many as may be emitted, its best ones, and it
        picks among the samples: repeats and mirror images are those of one. Without, every conformer has its own.

        Args:
            sets: Seeds of each molecule, and how many conformers are asked for.
            count: Takes the books' numbers.
            settle: Makes the seeds of the next round of samples, ``rounds.settled`` for each set; an error keeps them.
        """
        seeds = [s if self._ranked(s) else s.select(np.resize(np.arange(len(s)), n)) for s, n in sets]
        samples = self._sampled(seeds, count, last=self.rounds == 1)
        again = [i for i, s in enumerate(seeds) if self._ranked(s)]
        for left in reversed(range(self.rounds - 1)):
            if left == 0:
                for i in again:
                    rows = self._finalists(samples[i], seeds[i], sets[i][1])
                    seeds[i], samples[i] = seeds[i].select(rows), samples[i].select(rows)
            made = [replace(seeds[i], positions=samples[i].positions) for i in again]
            kept = [(i, s) for i, s in zip(again, settle(made), strict=True) if not isinstance(s, MoleculeError)]
            again = [i for i, _ in kept]
            drawn = self._sampled([s for _, s in kept], count, last=left == 0)
            for (i, s), sampled in zip(kept, drawn, strict=True):
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
        if not self._ranked(seeds):
            return samples
        energies = self._energies(samples, seeds)
        window, different = _window(samples.molecule)
        if self.settings.ewin is not None:
            window, different = self.settings.ewin, 0.0
        search = TorsionSettings(window=window, temperature=RANKED_TEMPERATURE, different=different)
        filling = fill(samples.molecule, energies, n, seed=self.settings.seed, settings=search)
        return replace(samples.select(filling.rows), positions=filling.of(samples.positions))

    def _finalists(self, samples: ConformerSet, seeds: ConformerSet, n: int) -> np.ndarray:
        """Indices of the lowest, as many as may be emitted."""
        lowest = np.argsort(self._energies(samples, seeds), kind="stable")
        return np.sort(lowest[: distinct(samples.molecule, n)])

    def _energies(self, samples: ConformerSet, seeds: ConformerSet) -> np.ndarray:
        """What the ranker predicts, kcal/mol."""
        from conformergen.datasets.ranked import RankedSet
        from conformergen.sampling.ranking import predict_energies

        assert self.model.ranker is not None
        assert seeds.energies is not None
        ranked = RankedSet(conformers=samples, baseline=seeds.energies)
        return predict_energies(self.model.ranker, ranked, pair_budget=self.sampling.pair_budget)

    def _sampled(self, seeds: list[ConformerSet], count: Callable[..., None], *, last: bool) -> list[ConformerSet]:
        """A verified sample of each seed, or the seed where no draw is right; rungs are the lower of both."""
        sampling = self.sampling if last else replace(self.sampling, steps=1)
        positions = [s.positions.copy() for s in seeds]
        rungs = [np.full(len(s), _SEED, dtype=np.uint8) for s in seeds]
        waiting = [np.arange(len(s)) for s in seeds]
        for attempt in range(_ATTEMPTS):
            if not any(map(len, waiting)):
                break
            if attempt:
                count(redrawn=sum(map(len, waiting)))
            drawn = self._drawn(seeds, waiting, attempt, sampling)
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

    def _drawn(
        self, seeds: list[ConformerSet], waiting: list[np.ndarray], attempt: int, sampling: "SamplingSettings"
    ) -> list[np.ndarray]:
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
            settings=sampling,
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


def _window(molecule: Molecule) -> tuple[float, float]:
    """Window, kcal/mol, and share of different conformers that it is widened for: a macrocycle's is wide already."""
    return (
        (_MACROCYCLE_WINDOW, 0.0) if largest_ring(molecule.smiles) >= MACROCYCLE else (_RANKED_WINDOW, RANKED_DIFFERENT)
    )
