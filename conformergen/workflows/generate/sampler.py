"""Network passes over a block of molecules, with verification and redraws."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np

from conformergen.chem import MACROCYCLE, Filling, TorsionSettings, fill, largest_ring
from conformergen.records import RUNGS, ConformerSet, Molecule
from conformergen.workflows.generate.finish import is_valid
from conformergen.workflows.generate.settings import GenerateSettings

if TYPE_CHECKING:
    from conformergen.sampling import SamplingJob

#: What is emitted of ranked candidates: the window of the ranker's energies, kcal/mol. Of macrocycles more: the ranker
#: has seen none.
_RANKED_WINDOW: Final = 4.0
_MACROCYCLE_WINDOW: Final = 10.0
#: Repeats are drawn with probability falling as exp(-E/temperature); kcal/mol, what the ranker is off by.
RANKED_TEMPERATURE: Final = 1.0
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
        self.sampling = SamplingSettings(sampler=settings.sampler, steps=settings.steps)

    def _chosen(self, candidates: ConformerSet, n: int) -> tuple[ConformerSet, Filling]:
        """Seeds to sample from, and how ``n`` conformers come of their samples.

        With a ranker the seeds are the different ones that it thinks best, and a repeat or a mirror image is that of
        the sample; without, every conformer has a sample of its own.
        """
        from conformergen.datasets.ranked import RankedSet
        from conformergen.sampling.ranking import predict_energies

        if not self.ranks or candidates.energies is None:
            each = candidates.select(np.resize(np.arange(len(candidates)), n))
            return each, Filling(rows=np.arange(n), mirrored=np.zeros(n, dtype=bool))
        assert self.model.ranker is not None
        energies = predict_energies(self.model.ranker, RankedSet(conformers=candidates, baseline=candidates.energies))
        window = self.settings.ewin or _window(candidates.molecule)
        search = TorsionSettings(window=window, temperature=RANKED_TEMPERATURE)
        filling = fill(candidates.molecule, energies, n, seed=self.settings.seed, settings=search)
        used, rows = np.unique(filling.rows, return_inverse=True)
        return candidates.select(used), replace(filling, rows=rows)

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

    def __call__(self, sets: list[tuple[ConformerSet, int]], count: Callable[..., None]) -> list[ConformerSet]:
        """Replace each set of seeds by as many verified samples as asked for; ``count`` takes the books' numbers."""
        from conformergen.sampling import SamplingJob, sample_batch, sample_in_memory

        chosen = [self._chosen(candidates, n) for candidates, n in sets]
        jobs: dict[tuple[int, int], SamplingJob] = {}
        for index, (seeds, _) in enumerate(chosen):
            for conformer, positions in enumerate(seeds.positions):
                jobs[index, conformer] = SamplingJob(
                    molecule=seeds.molecule, conformer=conformer, seed_positions=positions
                )
        sample = partial(
            sample_batch,
            self.model.network,
            self.model.diffusion,
            settings=self.sampling,
            seed=self.settings.seed,
            device=self.device,
        )
        results: dict[tuple[int, int], tuple[np.ndarray, int]] = {}
        for attempt in range(_ATTEMPTS):
            waiting = [replace(jobs[key], attempt=attempt) for key in jobs if key not in results]
            keys = [key for key in jobs if key not in results]
            if not waiting:
                break
            if attempt:
                count(redrawn=len(waiting))
            for batch in self._batches(waiting, [index for index, _ in keys]):
                sampled = sample_in_memory(sample, [waiting[i] for i in batch])
                for i, positions in zip(batch, sampled, strict=True):
                    if positions is not None and is_valid(positions[None], waiting[i].molecule)[0]:
                        results[keys[i]] = positions, min(attempt, _REDRAWN)
        lost = [key for key in jobs if key not in results]
        count(fallback=len(lost))
        for key in lost:
            seed = jobs[key].seed_positions
            assert seed is not None
            results[key] = seed, _SEED
        return [
            _joined(seeds, [results[index, c] for c in range(len(seeds))], filling)
            for index, (seeds, filling) in enumerate(chosen)
        ]


def _window(molecule: Molecule) -> float:
    return _MACROCYCLE_WINDOW if largest_ring(molecule.smiles) >= MACROCYCLE else _RANKED_WINDOW


def _joined(seeds: ConformerSet, results: list[tuple[np.ndarray, int]], filling: Filling) -> ConformerSet:
    """Conformers of one molecule from the samples, each with the lower of its own rung and its seed's."""
    rungs = np.array([rung for _, rung in results], dtype=np.uint8)
    if seeds.rungs is not None:
        rungs = np.maximum(rungs, seeds.rungs)
    positions = np.stack([positions for positions, _ in results]).astype(np.float32)
    return ConformerSet(molecule=seeds.molecule, positions=filling.of(positions), rungs=rungs[filling.rows])
