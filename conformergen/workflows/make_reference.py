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
from conformergen.storage import committed, exclusive_output, json_digest, sweep
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


def run_task(task: ReferenceTask) -> Path:
    """Make one ensemble and commit its file, unless it is there already.

    Raises:
        MoleculeError: As ``choose_isomer`` and ``reference_ensemble``.
    """
    if not task.path.exists():
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


@exclusive_output
def make_reference(  # noqa: PLR0913  one argument for each option of the command
    records: list[InputRecord],
    out: Path,
    settings: ReferenceSettings,
    *,
    seed: int = 0,
    split: str = "train",
    formats: tuple[str, ...] = (),
    jobs: int = 1,
    on_failure: Callable[[Failure], None] = lambda failure: None,
    progress: Callable[[int], None] = lambda n: None,
) -> PreprocessSummary:
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
        on_failure: Receives each failed species.
        progress: Called with 1 for each species.

    Raises:
        InputError: Where no engine is installed, or for an unusable split or format.
        LockedError: When another run works on ``out``.
    """
    settings = replace(settings, engine=choose_engine(settings.engine))
    if settings.level == "gfn-ff" and settings.engine != "xtb":
        raise InputError("--level gfn-ff needs the xtb program")
    if unknown := set(formats) - set(FORMATS):
        raise InputError(f"--format {', '.join(unknown)} is not one of {', '.join(FORMATS)}")
    splitter = make_splitter(split)
    units = out / UNITS
    units.mkdir(parents=True, exist_ok=True)
    sweep(units)
    tasks = [ReferenceTask(record=r, folder=str(units), settings=settings, seed=seed) for r in records]
    failures, finished = [], []
    for task, result in zip(tasks, map_molecules(run_task, tasks, jobs=jobs, timeout=_TIMEOUT), strict=True):
        progress(1)
        if isinstance(result, MoleculeError):
            failure = Failure.of(result, index=task.record.index, text=task.record.smiles, name=task.record.name)
            failures.append(failure)
            on_failure(failure)
        else:
            finished.append((task.record, result))
    pairing = SeedSettings()
    entries, books = [], []
    packed = map_molecules(partial(_finish, seeds=pairing, seed=seed), [path for _, path in finished], jobs=jobs)
    for (record, _), item in zip(finished, packed, strict=True):
        if isinstance(item, MoleculeError):
            raise item
        conformers, book = item
        books.append(book)
        entries.append(ShardEntry(conformers=conformers, split=splitter(conformers.molecule, record.index)))
    line: dict[str, Any] = {"name": "shard-00000.h5", "molecules": 0, "conformers": 0}
    if entries:
        line = write_shard(out / "shard-00000.h5", entries)
    for name in formats:
        _export(out, name, entries, settings, seed)
    line |= {"requested": len(records), "dropped": {}, "failures": [asdict(f) for f in failures]}
    configuration = {"reference": asdict(settings), "seed": seed, "split": split, "seeds": asdict(pairing)}
    digest = json_digest(configuration)
    write_manifest(out, configuration, digest, {line["name"]: line})
    write_json(out / BOOKS, books)
    return summarise_units({line["name"]: line})
