"""The ``preprocess`` command: sources to HDF5 shards. Each shard is one unit of work, and a run can be resumed."""

import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

import rdkit

from conformergen.datasets.exclusion import Exclusion
from conformergen.datasets.pairing import with_starts
from conformergen.datasets.prepare import Prepared, prepare
from conformergen.datasets.sources import PreprocessSettings, Sources
from conformergen.errors import InputError, MoleculeError
from conformergen.io.formats import RawEnsemble
from conformergen.io.manifest import MANIFEST, Manifest, ShardLine, read_manifest, write_manifest
from conformergen.io.shards import ShardEntry, write_shard
from conformergen.records import Failure
from conformergen.runtime.files import CLAIM, fault_point, file_digest, json_digest
from conformergen.runtime.locks import claimed, exclusive, output_folder
from conformergen.runtime.workers import Workers

#: Time limit of one molecule with its start structures, seconds of wall time.
_TIMEOUT: Final = 900.0


@dataclass(frozen=True, kw_only=True)
class PreprocessSummary:
    """Counts of one run; ``requested = done + failed``."""

    requested: int
    done: int
    failed: int
    conformers: int
    dropped: dict[str, int]
    failures: list[Failure]
    excluded: int = 0


def preprocess(
    sources: Sequence[Path],
    out: Path,
    settings: PreprocessSettings,
    *,
    jobs: int = 1,
    join: bool = False,
    progress: Callable[[int], None] = lambda n: None,
) -> PreprocessSummary | None:
    """Read, clean, pair with start structures, and write shards.

    Args:
        sources: Files or folders.
        out: Folder of shards and manifest.
        settings: What the shards contain.
        jobs: Worker processes; 0 for all cores.
        join: Share ``out`` with other runs that join, each making shards on which no other run works.
        progress: Called with the number of molecules that are done.

    Returns:
        Counts; None where other runs are still at work.

    Raises:
        InputError: For unreadable sources, or an output folder of other settings.
        LockedError: When another run works on ``out``, or, with ``join``, one that does not share it.
    """
    with output_folder(out, join=join) as owned, Workers(jobs, isolated=owned.previous_run_died) as workers:
        run = _Run(Sources(sources, settings), out, settings, workers)
        run(progress)
        if not owned.is_last():
            return None
        if run.n_left:  # units of runs that joined and are gone
            run(lambda n: None)
        manifest = Manifest(configuration=run.configuration, units=tuple(run.listed_units().values()))
        write_manifest(out, manifest)
        return summarise(manifest, excluded=run.n_excluded)


def summarise(manifest: Manifest, *, excluded: int = 0) -> PreprocessSummary:
    """Counts over all units of work."""
    assert manifest.requested == manifest.molecules + len(manifest.failures)
    return PreprocessSummary(
        requested=manifest.requested,
        done=manifest.molecules,
        failed=len(manifest.failures),
        conformers=manifest.conformers,
        dropped=manifest.dropped,
        failures=manifest.failures,
        excluded=excluded,
    )


def check_sources(sources: Sequence[Path], settings: PreprocessSettings) -> dict[str, int]:
    """Read every source without making anything; counts of molecules, conformers and problems.

    Raises:
        InputError: As ``preprocess``.
    """
    source, exclusion = Sources(sources, settings), Exclusion(settings.exclude_names, settings.exclude_smiles)
    counts: Counter[str] = Counter()
    for raw in exclusion(source.read()):
        counts["requested"] += 1
        try:
            prepared = prepare(raw, max_confs=settings.max_confs)
            counts["conformers"] += len(prepared.conformers)
            counts.update({f"dropped {k}": v for k, v in prepared.dropped.items()})
        except MoleculeError as error:
            counts[f"failed {error.reason}"] += 1
    return {**counts, "excluded": exclusion.count}


class _Run:
    """The shards of a run: each is made unless the manifest lists it or another run works on it."""

    def __init__(self, source: Sources, out: Path, settings: PreprocessSettings, workers: Workers) -> None:
        self.source, self.out, self.settings = source, out, settings
        self._map = partial(workers.map, timeout=_TIMEOUT)
        self.configuration = {"sources": [str(s) for s in source.paths], **asdict(settings)}
        self._digest = json_digest(self.configuration)
        self.n_excluded = self.n_left = 0

    def __call__(self, progress: Callable[[int], None]) -> None:
        """Go through the sources once; ``n_left`` is then the number of units on which another run works."""
        known = self.listed_units()
        finished = {name for name, line in known.items() if self._is_whole(line)}
        self.n_left = 0
        exclusion = Exclusion(self.settings.exclude_names, self.settings.exclude_smiles)
        stream = enumerate(exclusion(self.source.read()))
        for unit in itertools.count():
            block = list(itertools.islice(stream, self.settings.molecules_per_shard))
            if not block:
                break
            name = f"shard-{unit:05d}.h5"
            if name in finished:
                progress(len(block))
                continue
            with claimed(self.out / name) as mine:
                if not mine:
                    self.n_left += 1
                elif self.listed_units().get(name) == known.get(name):
                    self._record(self._make(name, block, progress))
        self.n_excluded = exclusion.count

    def listed_units(self) -> dict[str, ShardLine]:
        """Lines of the manifest, by the name of their shard.

        Raises:
            InputError: When the folder contains shards of other sources or settings.
        """
        if not (self.out / MANIFEST).is_file():
            return {}
        manifest = read_manifest(self.out)
        if manifest.configuration_digest != self._digest:
            raise InputError(f"{self.out} contains shards of other sources or settings: choose another folder")
        return {line.name: line for line in manifest.units}

    def _is_whole(self, line: ShardLine) -> bool:
        """Whether the shard of a line is there as it was written; an empty unit has none."""
        path = self.out / line.name
        return not line.sha256 or (path.is_file() and file_digest(path) == line.sha256)

    def _make(self, name: str, block: list[tuple[int, RawEnsemble]], progress: Callable[[int], None]) -> ShardLine:
        entries, failures, dropped = [], [], Counter[str]()
        work = partial(_prepare_one, settings=self.settings)
        for (index, raw), result in zip(block, self._map(work, (raw for _, raw in block)), strict=True):
            progress(1)
            if isinstance(result, MoleculeError):
                failures.append(Failure.of(result, index=index, text=raw.smiles, name=raw.name))
                continue
            dropped.update(result.dropped)
            molecule = result.conformers.molecule
            entries.append(ShardEntry(conformers=result.conformers, split=self.source.split(molecule, raw)))
        line = ShardLine(name=name)
        if entries:
            attributes = {"configuration": self._digest, "rdkit": rdkit.__version__}
            line = write_shard(self.out / name, entries, attributes=attributes)
        return replace(line, requested=len(block), dropped=dict(dropped), failures=tuple(failures))

    def _record(self, line: ShardLine) -> None:
        """Enter a finished unit into the manifest, which runs that joined write in turns."""
        with exclusive(self.out / (MANIFEST + CLAIM), wait=True):
            units = self.listed_units() | {line.name: line}
            ordered = tuple(units[name] for name in sorted(units))
            write_manifest(self.out, Manifest(configuration=self.configuration, units=ordered))


def _prepare_one(raw: RawEnsemble, settings: PreprocessSettings) -> Prepared:
    fault_point(f"molecule.{raw.name}")
    prepared = prepare(raw, max_confs=settings.max_confs)
    if settings.starts is None or len(prepared.conformers) == 0:
        return prepared
    paired = with_starts(prepared.conformers, settings.starts, seed=settings.seed)
    return Prepared(conformers=paired, dropped=prepared.dropped)
