"""The ``reference`` command: ensembles for a list of molecules, one finished file each, then shards."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from conformergen.datasets.pairing import PairingSettings, with_starts
from conformergen.datasets.splits import make_splitter
from conformergen.errors import InputError, MoleculeError
from conformergen.io.formats import Provenance, Writer
from conformergen.io.formats.geom_folder import GeomFolderWriter
from conformergen.io.formats.sdf import SdfWriter
from conformergen.io.inputs import InputRecord
from conformergen.io.manifest import Manifest, ShardLine, write_manifest
from conformergen.io.shards import ShardEntry, write_shard
from conformergen.records import ConformerSet, Failure
from conformergen.reference.settings import ReferenceSettings
from conformergen.reference.units import ReferenceTask, read_unit, run_task
from conformergen.refinement.engines import choose_engine
from conformergen.runtime.files import sweep, write_json
from conformergen.runtime.locks import output_folder
from conformergen.runtime.workers import map_molecules

#: Folder of finished ensembles; a later run takes them as they are.
UNITS: Final = "units"
#: Counts, CPU seconds and truncated stages of each molecule.
SEARCH_STATS: Final = "search_stats.json"
#: Name of the one shard.
_SHARD: Final = "shard-00000.h5"
#: Formats that can be written beside the shard.
FORMATS: Final[dict[str, Callable[[Path], Writer]]] = {
    "sdf": lambda out: SdfWriter(out / "ensembles.sdf.gz"),
    "rdkit-folder": lambda out: GeomFolderWriter(out / "rdkit_folder"),
}
#: Time limit of one molecule, seconds of wall time.
_TIMEOUT: Final = 4 * 3600.0
#: Start structures of reference ensembles.
_PAIRING: Final = PairingSettings(pairing="minimised")


def make_reference(  # noqa: PLR0913  one argument for each option of the command
    records: Sequence[InputRecord],
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
) -> Manifest | None:
    """Make ensembles and pack them into one shard with start structures, ready for ``train``.

    A run that is stopped can be continued: finished molecules are files in ``out/units``.

    Args:
        records: Species to work on.
        out: Folder of units, shard, manifest and statistics.
        settings: Depth of the search.
        seed: Seed of all random numbers.
        split: Name of a splitter, or a split file.
        formats: Entries of ``FORMATS``, written beside the shard.
        jobs: Worker processes; 0 for all cores.
        join: Share ``out`` with other runs that join; each works on what no other run works on, and the last one packs.
        on_failure: Receives each failed species.
        progress: Called with 1 for each species.

    Returns:
        The manifest; None where other runs are still at work, one of which will pack.

    Raises:
        InputError: Where no engine is installed, or for an unusable split or format.
        LockedError: When another run works on ``out``, or, with ``join``, one that does not share it.
    """
    settings = replace(settings, engine=choose_engine(settings.engine))
    if settings.theory == "gfn-ff" and settings.engine != "xtb":
        raise InputError("gfn-ff needs the xtb program", setting="theory")
    if unknown := set(formats) - set(FORMATS):
        raise InputError(f"{', '.join(unknown)} is not one of {', '.join(FORMATS)}", setting="format")
    make_splitter(split)
    with output_folder(out, join=join) as owned:
        units = out / UNITS
        units.mkdir(parents=True, exist_ok=True)
        tasks = [ReferenceTask(record=r, folder=str(units), settings=settings, seed=seed) for r in records]
        results: list[Path | MoleculeError | None] = [None] * len(tasks)

        def work(chosen: list[int]) -> None:
            made = map_molecules(
                run_task, [tasks[i] for i in chosen], jobs=jobs, timeout=_TIMEOUT, isolated=owned.previous_run_died
            )
            for i, result in zip(chosen, made, strict=True):
                results[i] = result
                progress(int(result is not None))
                if isinstance(result, MoleculeError):
                    on_failure(_failure(tasks[i], result))

        work(list(range(len(tasks))))
        if not owned.is_last():
            return None
        sweep(units)
        # What another run was working on is finished now, or that run is gone.
        work([i for i, result in enumerate(results) if result is None])
        made = list(zip(tasks, results, strict=True))
        packer = _Packer(out, settings, seed=seed, split=split, formats=formats, jobs=jobs, on_failure=on_failure)
        return packer(made)


def _failure(task: ReferenceTask, error: MoleculeError) -> Failure:
    return Failure.of(error, index=task.record.index, text=task.record.smiles, name=task.record.name)


class _Packer:
    """Shard, other formats, manifest and statistics of finished units; a unit without a start structure fails."""

    def __init__(
        self,
        out: Path,
        settings: ReferenceSettings,
        *,
        seed: int,
        split: str,
        formats: tuple[str, ...],
        jobs: int,
        on_failure: Callable[[Failure], None],
    ) -> None:
        self.out, self.settings, self.seed, self.split = out, settings, seed, split
        self.formats, self.jobs, self.on_failure = formats, jobs, on_failure

    def __call__(self, made: Sequence[tuple[ReferenceTask, Path | MoleculeError | None]]) -> Manifest:
        splitter = make_splitter(self.split)
        failures = [_failure(task, result) for task, result in made if isinstance(result, MoleculeError)]
        finished = [(task, result) for task, result in made if isinstance(result, Path)]
        entries, stats = [], []
        packed = map_molecules(partial(_finish, seed=self.seed), [path for _, path in finished], jobs=self.jobs)
        for (task, _), item in zip(finished, packed, strict=True):
            if isinstance(item, MoleculeError):
                failures.append(_failure(task, item))
                self.on_failure(failures[-1])
                continue
            conformers, own_stats = item
            stats.append(own_stats)
            entries.append(ShardEntry(conformers=conformers, split=splitter(conformers.molecule, task.record.index)))
        line = write_shard(self.out / _SHARD, entries) if entries else ShardLine(name=_SHARD)
        for name in self.formats:
            self._export(FORMATS[name](self.out), entries)
        configuration = {
            "reference": asdict(self.settings),
            "seed": self.seed,
            "split": self.split,
            "starts": asdict(_PAIRING),
        }
        unit = replace(line, requested=len(made), failures=tuple(failures))
        manifest = Manifest(configuration=configuration, units=(unit,))
        write_manifest(self.out, manifest)
        write_json(self.out / SEARCH_STATS, stats)
        return manifest

    def _export(self, writer: Writer, entries: Sequence[ShardEntry]) -> None:
        """Write the finished ensembles in another format."""
        model = f"{self.settings.theory} by {self.settings.engine}"
        try:
            for entry in entries:
                writer.write(entry.conformers, Provenance(seed=self.seed, model=model))
            writer.close()
        except BaseException:
            writer.discard()
            raise


def _finish(path: Path, *, seed: int) -> tuple[ConformerSet, dict[str, Any]]:
    conformers, stats = read_unit(path)
    return with_starts(conformers, _PAIRING, seed=seed), stats
