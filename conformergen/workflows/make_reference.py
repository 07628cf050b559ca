"""The ``reference`` command: ensembles for a list of molecules, one finished file each, then shards."""

import hashlib
import io
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from conformergen.chem import molecule_from_smiles
from conformergen.datasets.inputs import InputRecord
from conformergen.datasets.pairing import SeedSettings, with_seeds
from conformergen.datasets.shards import ShardEntry, write_json, write_shard
from conformergen.datasets.splits import make_splitter
from conformergen.errors import InputError, MoleculeError
from conformergen.records import ConformerSet, Failure
from conformergen.refinement.engines import choose_engine
from conformergen.storage import claimed, committed, json_digest, output_folder, sweep
from conformergen.workflows.geom_folder import GeomFolderWriter
from conformergen.workflows.isomers import choose_isomer
from conformergen.workflows.outputs import Provenance, SdfWriter, Writer
from conformergen.workflows.pool import map_molecules
from conformergen.workflows.preprocess import PreprocessSummary, summarise_units, write_manifest
from conformergen.workflows.reference import ReferenceResult, ReferenceSettings, reference_ensemble

#: Folder of finished ensembles, one file for each molecule; a second run takes them as they are.
UNITS: Final = "units"
#: Counts, CPU seconds and truncations of each molecule.
BOOKS: Final = "books.json"
#: What can be written beside the shard.
FORMATS: Final[dict[str, Callable[[Path], Writer]]] = {
    "sdf": lambda out: SdfWriter(out / "ensembles.sdf.gz"),
    "rdkit-folder": lambda out: GeomFolderWriter(out / "rdkit_folder"),
}
#: Seconds of wall time for one molecule.
_TIMEOUT: Final = 4 * 3600.0


@dataclass(frozen=True, kw_only=True)
class ReferenceTask:
    """One molecule of a reference run: picklable work of one process."""

    record: InputRecord
    folder: str
    settings: ReferenceSettings
    seed: int

    @property
    def path(self) -> Path:
        """File of the finished ensemble: a digest of everything its content depends on."""
        text = json.dumps([self.record.smiles, self.record.name, asdict(self.settings), self.seed], sort_keys=True)
        return Path(self.folder) / f"{hashlib.sha256(text.encode()).hexdigest()[:24]}.npz"


def run_task(task: ReferenceTask) -> Path | None:
    """Make one ensemble and commit its file, unless it is there already; None where another run is at it.

    Raises:
        MoleculeError: As ``choose_isomer`` and ``reference_ensemble``.
    """
    with claimed(task.path) as mine:
        if not task.path.exists():
            if not mine:
                return None
            molecule = choose_isomer(task.record.smiles, task.record.name, seed=task.seed)
            _commit(task, reference_ensemble(molecule, task.settings, seed=task.seed))
    return task.path


def _commit(task: ReferenceTask, result: ReferenceResult) -> None:
    molecule = result.conformers.molecule
    books = {
        "smiles": molecule.smiles,
        "name": molecule.name,
        "source_smiles": molecule.source_smiles,
        "stereo": molecule.stereo,
        "counts": result.counts,
        "cpu_seconds": result.cpu_seconds,
        "truncated": result.truncated,
        "settings": asdict(task.settings),
        "seed": task.seed,
    }
    with committed(task.path, verify=read_unit) as temporary, temporary.open("wb") as file:
        np.savez(
            file,
            positions=result.conformers.positions,
            energies=result.conformers.energies,  # type: ignore[arg-type]
            weights=result.conformers.weights,  # type: ignore[arg-type]
            forcefield_positions=result.forcefield[0],
            forcefield_energies=result.forcefield[1],
            books=np.frombuffer(json.dumps(books).encode(), dtype=np.uint8),
        )


def read_unit(path: Path) -> tuple[ConformerSet, dict[str, Any]]:
    """Ensemble and books of one finished molecule."""
    with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    books: dict[str, Any] = json.loads(arrays["books"].tobytes())
    molecule = molecule_from_smiles(books["smiles"], books["name"])
    conformers = ConformerSet(
        molecule=molecule,
        positions=arrays["positions"],
        energies=arrays["energies"],
        weights=arrays["weights"],
        source_idx=np.arange(len(arrays["positions"]), dtype=np.int32),
        energy_method=books["settings"]["level"],
    )
    return conformers, books


def _finish(path: Path, *, seeds: SeedSettings, seed: int) -> tuple[ConformerSet, dict[str, Any]]:
    conformers, books = read_unit(path)
    return with_seeds(conformers, seeds, seed=seed), books


def _export(out: Path, name: str, entries: list[ShardEntry], settings: ReferenceSettings, seed: int) -> None:
    """Write the finished ensembles in another format."""
    writer = FORMATS[name](out)
    try:
        for entry in entries:
            writer.write(entry.conformers, Provenance(seed=seed, model=f"{settings.level} by {settings.engine}"))
        writer.close()
    except BaseException:
        writer.discard()
        raise


def make_reference(  # noqa: PLR0913  one argument for each option of the command
    records: list[InputRecord],
    out: Path,
    settings: ReferenceSettings,
    *,
    seed: int = 0,
    split: str = "train",
    formats: tuple[str, ...] = (),
    jobs: int = 1,
    join: bool = False,
    on_failure: Callable[[Failure], None] = lambda failure: None,
    progress: Callable[[int], None] = lambda n: None,
) -> PreprocessSummary | None:
    """Make ensembles and pack them into one shard with seed conformers, ready for ``train``.

    A run that is stopped goes on where it was: finished molecules are files in ``out/units``.

    Args:
        records: Species to work on.
        out: Folder of units, shard, manifest and books.
        settings: Depth of the search.
        seed: Of everything random.
        split: Name of a splitter, or a split file.
        formats: Entries of ``FORMATS``, written beside the shard.
        jobs: Worker processes; 0 for all cores.
        join: Share ``out`` with other runs that join, each making what no other is at; the last to end packs.
        on_failure: Receives each failed species.
        progress: Called with 1 for each species.

    Returns:
        Counts; None where other runs are still at work, and one of them will pack.

    Raises:
        InputError: Where no engine is installed, or for an unusable split or format.
        LockedError: When another run works on ``out``, or, with ``join``, one that does not share it.
    """
    settings = replace(settings, engine=choose_engine(settings.engine))
    if settings.level == "gfn-ff" and settings.engine != "xtb":
        raise InputError("--level gfn-ff needs the xtb program")
    if unknown := set(formats) - set(FORMATS):
        raise InputError(f"--format {', '.join(unknown)} is not one of {', '.join(FORMATS)}")
    make_splitter(split)
    with output_folder(out, join=join) as owned:
        units = out / UNITS
        units.mkdir(parents=True, exist_ok=True)
        tasks = [ReferenceTask(record=r, folder=str(units), settings=settings, seed=seed) for r in records]
        results: list[Path | MoleculeError | None] = [None] * len(tasks)

        def work(chosen: list[int]) -> None:
            made = map_molecules(
                run_task, [tasks[i] for i in chosen], jobs=jobs, timeout=_TIMEOUT, isolated=owned.suspicious
            )
            for i, result in zip(chosen, made, strict=True):
                results[i] = result
                progress(int(result is not None))
                if isinstance(result, MoleculeError):
                    on_failure(_failure(tasks[i], result))

        work(list(range(len(tasks))))
        if not owned.alone():
            return None
        sweep(units)
        # What another run was at is done by now, or that run is gone.
        work([i for i, result in enumerate(results) if result is None])
        made = list(zip(tasks, results, strict=True))
        return _pack(
            made, out, settings=settings, seed=seed, split=split, formats=formats, jobs=jobs, on_failure=on_failure
        )


def _failure(task: ReferenceTask, error: MoleculeError) -> Failure:
    return Failure.of(error, index=task.record.index, text=task.record.smiles, name=task.record.name)


def _pack(
    made: list[tuple[ReferenceTask, Path | MoleculeError | None]],
    out: Path,
    *,
    settings: ReferenceSettings,
    seed: int,
    split: str,
    formats: tuple[str, ...],
    jobs: int,
    on_failure: Callable[[Failure], None],
) -> PreprocessSummary:
    """Shard, other formats, manifest and books of finished units; one that no seed can be made for fails."""
    splitter, pairing = make_splitter(split), SeedSettings(pairing="relaxed")
    failures = [_failure(task, result) for task, result in made if isinstance(result, MoleculeError)]
    finished = [(task, result) for task, result in made if isinstance(result, Path)]
    entries, books = [], []
    packed = map_molecules(partial(_finish, seeds=pairing, seed=seed), [path for _, path in finished], jobs=jobs)
    for (task, _), item in zip(finished, packed, strict=True):
        if isinstance(item, MoleculeError):
            failures.append(_failure(task, item))
            on_failure(failures[-1])
            continue
        conformers, book = item
        books.append(book)
        entries.append(ShardEntry(conformers=conformers, split=splitter(conformers.molecule, task.record.index)))
    line: dict[str, Any] = {"name": "shard-00000.h5", "molecules": 0, "conformers": 0}
    if entries:
        line = write_shard(out / "shard-00000.h5", entries)
    for name in formats:
        _export(out, name, entries, settings, seed)
    line |= {"requested": len(made), "dropped": {}, "failures": [asdict(f) for f in failures]}
    configuration = {"reference": asdict(settings), "seed": seed, "split": split, "seeds": asdict(pairing)}
    digest = json_digest(configuration)
    write_manifest(out, configuration, digest, {line["name"]: line})
    write_json(out / BOOKS, books)
    return summarise_units({line["name"]: line})
