"""The ``generate`` command and function: SMILES in, verified conformers out, nothing lost."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import numpy as np
from rdkit import Chem

from conformergen.chem import (
    EmbedSettings,
    TorsionSettings,
    complete,
    distinct,
    embed,
    heavy_atoms,
    largest_fragment,
    mol_with_conformers,
    symmetry_group,
    to_mol,
    torsion_minima,
    torsion_search,
)
from conformergen.datasets.inputs import InputRecord
from conformergen.errors import InputError, MoleculeError
from conformergen.geometry.duplicates import farthest_first
from conformergen.geometry.graph import bonds_kept
from conformergen.geometry.stereo import stereo_ok
from conformergen.records import ConformerSet, Failure, Molecule
from conformergen.refinement import REFINERS
from conformergen.refinement.engines import choose_engine
from conformergen.units import GAS_CONSTANT, ROOM_TEMPERATURE
from conformergen.workflows.isomers import STEREO_POLICIES, isomers
from conformergen.workflows.outputs import Provenance, Writer
from conformergen.workflows.pool import map_molecules, resolve_jobs
from conformergen.workflows.reference import ReferenceSettings, reference_ensemble

#: Molecules that go through seeds, network and refinement together.
_BLOCK: Final = 64
#: Seconds of wall time for the seeds or the refinement of one molecule.
_TIMEOUT: Final = 600.0
#: The same for a search of minima.
_SEARCH_TIMEOUT: Final = 4 * 3600.0
#: Window above the lowest minimum, kcal/mol, and number of minima kept of a search.
_SEARCH_WINDOW: Final = 14.0
_MAX_MINIMA: Final = 1000
#: Candidates for a ranker: wide, because MMFF94s misjudges conformers by several kcal/mol. What of them is emitted: the
#: window of a ranker's energies, kcal/mol.
_CANDIDATES: Final = TorsionSettings(pool=2, seeds_share=8, window=16.0)
_RANKED_WINDOW: Final = 4.0
#: Draws of a conformer before its seed is emitted instead.
_ATTEMPTS: Final = 3
#: Methods that need no model; the model starts from one of them.
SEEDERS: Final = ("etkdg", "etkdg+mmff94s", "torsion+mmff94s")
#: GFN-FF minima from metadynamics, stages 1 to 6 of ``reference``: tens of CPU seconds for each molecule.
SEARCH: Final = "gfnff"
METHODS: Final = ("model", *SEEDERS, SEARCH)
#: What to do with salts and mixtures: keep the largest organic fragment, or refuse them.
FRAGMENT_POLICIES: Final = ("largest", "error")
#: Which minima of a search are emitted: the lowest, or the lowest and then each the farthest from those before it.
SELECTIONS: Final = ("lowest", "diverse")


@dataclass(frozen=True, kw_only=True)
class GenerateSettings:
    """How conformers are made.

    Attributes:
        n: Conformers of each molecule.
        per_reference: When positive, n is this multiple of the input's ``n_conformers`` (2 for the 2K protocol).
        method: Entry of ``METHODS``.
        seeds: Entry of ``SEEDERS`` for the model, or ``auto``: what suits the checkpoint.
        pool: Starts of a torsion search for each conformer asked for.
        ewin: Window above the lowest conformer, kcal/mol, for methods that search; None for the method's own.
        checkpoint: Name or path of the model.
        sampler: Entry of ``sampling.SAMPLERS``.
        steps: Integration steps.
        select: Entry of ``SELECTIONS``, for methods that find more than ``n``.
        seed: Of everything random.
        refine: Entry of ``REFINERS``, applied after sampling.
        max_refine_steps: Iterations of the refiner at most.
        stereo: Entry of ``STEREO_POLICIES``.
        fragments: Entry of ``FRAGMENT_POLICIES``.
        max_atoms: Largest molecule, hydrogens included.
        jobs: Worker processes for seeds and refinement; 0 for all cores.
        device: ``auto``, ``cpu`` or ``cuda``.
    """

    n: int = 20
    per_reference: int = 0
    method: str = "model"
    seeds: str = "auto"
    pool: int = TorsionSettings.pool
    ewin: float | None = None
    checkpoint: str = "default"
    sampler: str = "euler"
    steps: int = 2
    select: str = "lowest"
    seed: int = 0
    refine: str = "none"
    max_refine_steps: int = 500
    stereo: str = "sample"
    fragments: str = "largest"
    max_atoms: int = 999
    jobs: int = 1
    device: str = "auto"

    def __post_init__(self) -> None:
        for name, known in (
            ("method", METHODS),
            ("seeds", ("auto", *SEEDERS)),
            ("select", SELECTIONS),
            ("refine", tuple(REFINERS)),
            ("stereo", STEREO_POLICIES),
            ("fragments", FRAGMENT_POLICIES),
        ):
            if getattr(self, name) not in known:
                raise InputError(f"--{name} {getattr(self, name)!r} is not one of {', '.join(known)}")
        if self.per_reference < 0 or min(self.n, self.pool, self.steps, self.max_atoms) < 1:
            raise InputError("-n, --pool, --steps and --max-atoms must be at least 1")
        if self.ewin is not None and self.ewin <= 0:
            raise InputError("--ewin must be positive")

    def summary(self) -> str:
        """What a reader of the output should know of these settings."""
        used = {"pool": self.pool, "ewin": self.ewin or "own", "select": self.select, "refine": self.refine}
        if self.method == "model":
            used |= {"seeds": self.seeds, "sampler": self.sampler, "steps": self.steps}
        return " ".join(f"{key}={value}" for key, value in used.items())


@dataclass(frozen=True, kw_only=True)
class GenerateSummary:
    """Counts of one run; ``requested = done + failed``.

    Attributes:
        requested: Inputs.
        done: Inputs with conformers.
        failed: Inputs without.
        conformers: Conformers written.
        redrawn: Conformers drawn again for wrong stereo, bonds or non-finite coordinates.
        fallback: Conformers whose every draw was wrong and that are their verified seed instead.
        short: Inputs with fewer conformers than asked for.
        failures: One record for each failed input.
    """

    requested: int = 0
    done: int = 0
    failed: int = 0
    conformers: int = 0
    redrawn: int = 0
    fallback: int = 0
    short: int = 0
    failures: tuple[Failure, ...] = ()


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Seeded:
    """One input after the worker processes: a set of seed conformers for each of its isomers."""

    record: InputRecord
    sets: list[ConformerSet]
    n: int


def prepare_seeds(record: InputRecord, *, settings: GenerateSettings, seeder: str, ranked: bool) -> Seeded:
    """Parse one input, settle its stereo and make its seeds, or candidates for a ranker; the work of one process.

    Raises:
        MoleculeError: With the reason why there is no seed.
    """

    def seeds(molecule: Molecule, n: int) -> ConformerSet:
        if seeder == "torsion+mmff94s":
            if ranked:
                # A few conformers are the low ones of some, not the first found.
                candidates = max(2 * settings.pool, distinct(molecule, n) * max(1, settings.pool // 2))
                positions, energies = torsion_minima(molecule, candidates, seed=settings.seed, settings=_CANDIDATES)
            else:
                search = TorsionSettings(pool=settings.pool, window=settings.ewin or TorsionSettings.window)
                positions, energies = torsion_search(molecule, n, seed=settings.seed, settings=search)
            known = bool(np.isfinite(energies).all())
            return ConformerSet(
                molecule=molecule,
                positions=positions.astype(np.float32),
                energies=energies if known else None,
                energy_method="mmff94s" if known else "",
            )
        embedding = EmbedSettings(mmff94s=seeder == "etkdg+mmff94s")
        return ConformerSet(molecule=molecule, positions=embed(molecule, n, seed=settings.seed, settings=embedding))

    return _prepare(record, settings, seeds)


def search_minima(record: InputRecord, *, settings: GenerateSettings) -> Seeded:
    """GFN-FF minima of one input, within 14 kcal/mol of the lowest; fewer than n where there are no more.

    Raises:
        MoleculeError: With the reason why there is none.
    """

    def minima(molecule: Molecule, n: int) -> ConformerSet:
        search = ReferenceSettings(
            level="gfn-ff", engine="xtb", ewin=settings.ewin or _SEARCH_WINDOW, max_final=_MAX_MINIMA
        )
        found = reference_ensemble(molecule, search, seed=settings.seed).conformers
        picked = np.arange(min(n, len(found)))
        if settings.select == "diverse":
            mol = to_mol(molecule)
            heavy = heavy_atoms(mol)
            picked = farthest_first(found.positions[:, heavy], symmetry_group(mol), n)
        assert found.energies is not None
        return replace(
            ConformerSet(molecule=molecule, positions=found.positions[picked]),
            energies=found.energies[picked],
            energy_method="gfn-ff",
        )

    return _prepare(record, settings, minima)


def _prepare(record: InputRecord, settings: GenerateSettings, make: Callable[[Molecule, int], ConformerSet]) -> Seeded:
    if not record.smiles:
        raise MoleculeError("parse", "unreadable input record")
    n = settings.per_reference * record.n_references if settings.per_reference and record.n_references else settings.n
    smiles = largest_fragment(record.smiles) if settings.fragments == "largest" else record.smiles
    species = [
        replace(molecule, source_smiles=record.smiles)
        for molecule in isomers(
            smiles, record.name, policy=settings.stereo, seed=settings.seed, max_atoms=settings.max_atoms
        )
    ]
    return Seeded(record=record, sets=[make(molecule, n) for molecule in species], n=n)


def refine_set(conformers: ConformerSet, *, settings: GenerateSettings) -> ConformerSet:
    """Refine one molecule's conformers; one whose bonds or stereo change keeps its positions."""
    refined = REFINERS[settings.refine](conformers, max_steps=settings.max_refine_steps).conformers
    good = is_valid(refined.positions, conformers.molecule)
    if good.all() or settings.refine == "none":
        return with_weights(refined)
    positions = np.where(good[:, None, None], refined.positions, conformers.positions)
    return replace(conformers, positions=positions)


def is_valid(positions: np.ndarray, molecule: Molecule) -> np.ndarray:
    """Finite, with the bonds of the graph and the requested stereo; one answer per conformer."""
    finite = np.isfinite(positions).all(axis=(1, 2))
    safe = np.where(finite[:, None, None], positions, 0.0)
    return finite & stereo_ok(safe, molecule.graph) & bonds_kept(safe, molecule.graph)


def with_weights(conformers: ConformerSet) -> ConformerSet:
    """Energies relative to the lowest, and Boltzmann weights at 298.15 K."""
    if conformers.energies is None or len(conformers) == 0:
        return conformers
    relative = conformers.energies - conformers.energies.min()
    weights = np.exp(-relative / (GAS_CONSTANT * ROOM_TEMPERATURE))
    return replace(conformers, energies=relative, weights=weights / weights.sum())


class _Books:
    """Running counts."""

    def __init__(self) -> None:
        self.summary = GenerateSummary()

    def add(self, **counts: int) -> None:
        self.summary = replace(self.summary, **{k: getattr(self.summary, k) + v for k, v in counts.items()})

    def fail(self, record: InputRecord, error: MoleculeError) -> Failure:
        failure = Failure.of(error, index=record.index, text=record.smiles, name=record.name)
        self.add(failed=1)
        self.summary = replace(self.summary, failures=(*self.summary.failures, failure))
        return failure


class _ModelSampler:
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

    def _ranked(self, candidates: ConformerSet, n: int) -> ConformerSet:
        """The ``n`` seeds that the ranker thinks best; all candidates for a model without one."""
        from conformergen.datasets.ranked import RankedSet
        from conformergen.sampling.ranking import predict_energies

        if not self.ranks or candidates.energies is None:
            return candidates
        assert self.model.ranker is not None
        energies = predict_energies(self.model.ranker, RankedSet(conformers=candidates, baseline=candidates.energies))
        positions, _ = complete(
            candidates.molecule,
            candidates.positions.astype(np.float64),
            energies,
            n,
            seed=self.settings.seed,
            settings=TorsionSettings(window=self.settings.ewin or _RANKED_WINDOW),
        )
        return ConformerSet(molecule=candidates.molecule, positions=positions.astype(np.float32))

    def __call__(self, sets: list[tuple[ConformerSet, int]], books: _Books) -> list[ConformerSet]:
        """Replace each set of seeds by as many verified samples as asked for."""
        from conformergen.sampling import SamplingJob, plan_batches, sample_batch

        sets = [(self._ranked(candidates, n), n) for candidates, n in sets]
        jobs: dict[tuple[int, int], SamplingJob] = {}
        for index, (seeds, n) in enumerate(sets):
            for conformer in range(n):
                jobs[index, conformer] = SamplingJob(
                    molecule=seeds.molecule,
                    conformer=conformer,
                    seed_positions=seeds.positions[conformer % len(seeds)],
                )
        results: dict[tuple[int, int], np.ndarray] = {}
        for attempt in range(_ATTEMPTS):
            waiting = [replace(jobs[key], attempt=attempt) for key in jobs if key not in results]
            keys = [key for key in jobs if key not in results]
            if not waiting:
                break
            if attempt:
                books.add(redrawn=len(waiting))
            for batch in plan_batches([j.molecule.graph.n_atoms for j in waiting], self.sampling.pair_budget):
                sampled = sample_batch(
                    self.model.network,
                    self.model.diffusion,
                    [waiting[i] for i in batch],
                    self.sampling,
                    seed=self.settings.seed,
                    device=self.device,
                )
                for i, positions in zip(batch, sampled, strict=True):
                    if is_valid(positions[None], waiting[i].molecule)[0]:
                        results[keys[i]] = positions
        lost = [key for key in jobs if key not in results]
        books.add(fallback=len(lost))
        for key in lost:
            seed = jobs[key].seed_positions
            assert seed is not None
            results[key] = seed
        return [
            ConformerSet(
                molecule=seeds.molecule, positions=np.stack([results[index, c] for c in range(n)]).astype(np.float32)
            )
            for index, (seeds, n) in enumerate(sets)
        ]


def generate_stream(
    records: Iterable[InputRecord],
    settings: GenerateSettings,
    *,
    on_failure: Callable[[Failure], None] = lambda failure: None,
    progress: Callable[[int], None] = lambda n: None,
) -> Iterator[tuple[ConformerSet, Provenance] | GenerateSummary]:
    """Yield each molecule's conformers in input order, then the summary.

    Raises:
        InputError: For an unknown checkpoint, method or device.
        DataError: For a damaged checkpoint.
    """
    sampler = _ModelSampler(settings) if settings.method == "model" else None
    label = settings.method if sampler is None else f"{sampler.model.name}:{sampler.model.digest[:12]}"
    provenance = Provenance(seed=settings.seed, model=label, settings=settings.summary())
    jobs = resolve_jobs(settings.jobs)
    books = _Books()
    seeding: Callable[[InputRecord], Seeded]
    if settings.method == SEARCH:
        choose_engine("xtb")
        seeding, timeout = partial(search_minima, settings=settings), _SEARCH_TIMEOUT
    else:
        seeder, ranked = (settings.method, False) if sampler is None else (sampler.seeder, sampler.ranks)
        seeding, timeout = partial(prepare_seeds, settings=settings, seeder=seeder, ranked=ranked), _TIMEOUT
    refining = partial(refine_set, settings=settings)
    stream = iter(records)
    while block := list(itertools.islice(stream, _BLOCK)):
        books.add(requested=len(block))
        seeded: list[Seeded] = []
        for record, result in zip(block, map_molecules(seeding, block, jobs=jobs, timeout=timeout), strict=True):
            if isinstance(result, MoleculeError):
                on_failure(books.fail(record, result))
                progress(1)
            else:
                seeded.append(result)
        flat = [(s, item.n) for item in seeded for s in item.sets]
        sets = [with_weights(s) for s, _ in flat] if sampler is None else sampler(flat, books)
        refined = (
            list(sets)
            if settings.refine == "none"
            else list(map_molecules(refining, sets, jobs=jobs, timeout=_TIMEOUT))
        )
        cursor = iter(zip(refined, sets, strict=True))
        for item in seeded:
            pairs = list(itertools.islice(cursor, len(item.sets)))
            # A refinement that died leaves the sampled conformers, without energies.
            finished = [before if isinstance(after, MoleculeError) else after for after, before in pairs]
            books.add(done=1, conformers=sum(map(len, finished)), short=int(any(len(s) < item.n for s in finished)))
            progress(1)
            for conformers in finished:
                yield conformers, provenance
    summary = books.summary
    assert summary.requested == summary.done + summary.failed
    yield summary


def generate_to(
    records: Iterable[InputRecord],
    writer: Writer,
    settings: GenerateSettings,
    *,
    on_failure: Callable[[Failure], None] = lambda failure: None,
    progress: Callable[[int], None] = lambda n: None,
) -> GenerateSummary:
    """Generate into a writer; the output appears only when it is complete."""
    summary = GenerateSummary()
    try:
        for item in generate_stream(records, settings, on_failure=on_failure, progress=progress):
            if isinstance(item, GenerateSummary):
                summary = item
            else:
                writer.write(*item)
        writer.close()
    except BaseException:
        writer.discard()
        raise
    return summary


def generate(
    molecule: "str | Chem.Mol",
    n: int = 20,
    *,
    checkpoint: str = "default",
    method: str = "model",
    steps: int = 2,
    seed: int = 0,
    refine: str = "none",
    device: str = "auto",
) -> Chem.Mol:
    """Conformers of one molecule.

    Args:
        molecule: SMILES, or an RDKit molecule (its stereo labels count, its conformers do not).
        n: Conformers.
        checkpoint: Name of a shipped model, or a folder.
        method: ``model``, ``etkdg``, ``etkdg+mmff94s``, ``torsion+mmff94s`` (random search of torsions), or ``gfnff``
            (GFN-FF minima by metadynamics; needs xtb).
        steps: Network evaluations of the default sampler.
        seed: Same seed, same conformers.
        refine: ``none``, ``mmff94s``, ``gfn-ff`` or ``gfn2-xtb``.
        device: ``auto``, ``cpu`` or ``cuda``.

    Returns:
        A new molecule with explicit hydrogens and ``n`` conformers; properties ``energy_kcal`` on conformers
        where there is an energy.

    Raises:
        MoleculeError: With a reason code when the molecule cannot be processed.
        InputError: For unknown options.

    Example:
        >>> import conformergen
        >>> mol = conformergen.generate("CC(=O)Nc1ccc(O)cc1", n=5)
        >>> mol.GetNumConformers()
        5
    """
    if isinstance(molecule, Chem.Mol):
        name = molecule.GetProp("_Name") if molecule.HasProp("_Name") else ""
        smiles = Chem.MolToSmiles(Chem.RemoveHs(molecule))
    else:
        name, smiles = "", molecule
    settings = GenerateSettings(
        n=n, method=method, checkpoint=checkpoint, steps=steps, seed=seed, refine=refine, device=device
    )
    record = InputRecord(index=0, smiles=smiles, name=name)
    for item in generate_stream([record], settings):
        if isinstance(item, GenerateSummary):
            failure = item.failures[0]
            raise MoleculeError(failure.reason, failure.message)
        conformers = item[0]
        mol = mol_with_conformers(conformers.molecule, conformers.positions)
        mol.SetProp("_Name", name)
        if conformers.energies is not None:
            for conformer, energy in zip(mol.GetConformers(), conformers.energies.tolist(), strict=True):
                conformer.SetDoubleProp("energy_kcal", energy)
        return mol
    raise AssertionError("the stream always ends with a summary")
