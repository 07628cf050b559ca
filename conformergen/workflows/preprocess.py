"""The ``preprocess`` command: sources to HDF5 shards, one unit of work a shard, resumable."""

import fnmatch
import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import rdkit
from rdkit import Chem

from conformergen.datasets.inputs import read_inputs
from conformergen.datasets.pairing import SeedSettings, with_seeds
from conformergen.datasets.prepare import Prepared, prepare
from conformergen.datasets.readers import READERS, RawEnsemble, detect_format
from conformergen.datasets.shards import (
    MANIFEST,
    ShardEntry,
    file_digest,
    read_manifest,
    write_manifest_file,
    write_shard,
)
from conformergen.datasets.splits import make_splitter
from conformergen.errors import InputError, MoleculeError
from conformergen.records import Failure, Molecule
from conformergen.storage import CLAIM, claimed, exclusive, fault_point, json_digest, output_folder
from conformergen.workflows.pool import Workers

#: Seconds of wall time for one molecule, seeds included.
_TIMEOUT: Final = 900.0
#: Split of a set made of shards: what each molecule had there.
_KEEP: Final = "keep"


@dataclass(frozen=True, kw_only=True)
class PreprocessSettings:
    """What the shards hold.

    Attributes:
        format: Reader, or ``auto``.
        split: ``random``, ``scaffold``, ``train`` (everything), a split file, or ``keep`` (that of shards).
        max_confs: Lowest conformers kept of each molecule.
        seeds: Seed conformers paired with the references; None leaves them out.
        seed: Of the seed conformers.
        molecules_per_shard: Source molecules in one unit of work.
        exclude_names: Shell patterns of names to leave out, for example ``geomdrugs_rot*``.
        exclude_smiles: Lists of molecules to leave out (.smi or .csv), compared by the connectivity block of
            the InChIKey, so that stereoisomers of a test molecule go too.
    """

    format: str = "auto"
    split: str = "random"
    max_confs: int = 30
    seeds: SeedSettings | None = field(default_factory=SeedSettings)
    seed: int = 0
    molecules_per_shard: int = 2000
    exclude_names: tuple[str, ...] = ()
    exclude_smiles: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.format != "auto" and self.format not in READERS:
            raise InputError(f"format {self.format!r} is not one of auto, {', '.join(READERS)}")
        if self.max_confs < 1 or self.molecules_per_shard < 1:
            raise InputError("max_confs and molecules_per_shard must be at least 1")


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
    sources: list[Path],
    out: Path,
    settings: PreprocessSettings,
    *,
    jobs: int = 1,
    join: bool = False,
    progress: Callable[[int], None] = lambda n: None,
) -> PreprocessSummary | None:
    """Read, clean, pair with seeds and write shards.

    Args:
        sources: Files or folders.
        out: Folder of shards and manifest.
        settings: What the shards hold.
        jobs: Worker processes; 0 for all cores.
        join: Share ``out`` with other runs that join, each making the shards that no other is at.
        progress: Called with the molecules that are done.

    Returns:
        Counts; None where other runs are still at work.

    Raises:
        InputError: For unreadable sources, or an output folder of other settings.
        LockedError: When another run works on ``out``, or, with ``join``, one that does not share it.
    """
    formats = [detect_format(s) if settings.format == "auto" else settings.format for s in sources]
    with output_folder(out, join=join) as owned, Workers(jobs, isolated=owned.suspicious) as workers:
        work = _Units(sources, formats, out, settings, workers)
        work(progress)
        if not owned.alone():
            return None
        if work.left:  # of runs that joined and are gone
            work(lambda n: None)
        units = _listed_units(out, work.digest)
        write_manifest(out, work.configuration, work.digest, units)
        return replace(summarise_units(units), excluded=work.excluded)


class _Units:
    """The shards of a run: each is made unless the manifest has it or another run is at it."""

    def __init__(
        self, sources: list[Path], formats: list[str], out: Path, settings: PreprocessSettings, workers: Workers
    ) -> None:
        self.sources, self.formats, self.out, self.settings = sources, formats, out, settings
        self.map = partial(workers.map, timeout=_TIMEOUT)
        self.split = _splitter(settings.split, formats)
        self.configuration = {"sources": [str(s) for s in sources], **asdict(settings)}
        self.digest = json_digest(self.configuration)
        self.excluded = self.left = 0

    def __call__(self, progress: Callable[[int], None]) -> None:
        """Go through the sources once; ``left`` then counts the units that another run was at."""
        known = _listed_units(self.out, self.digest)
        finished = {name for name, line in known.items() if _is_whole(self.out, line)}
        self.left = 0
        filtered = _Excluding(self.settings)
        stream = enumerate(filtered(_read_all(self.sources, self.formats)))
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
                    self.left += 1
                elif _listed_units(self.out, self.digest).get(name) == known.get(name):
                    self._record(name, self._make(name, block, progress))
        self.excluded = filtered.count

    def _make(self, name: str, block: list[tuple[int, RawEnsemble]], progress: Callable[[int], None]) -> dict[str, Any]:
        entries, failures, dropped = [], [], Counter[str]()
        work = partial(_prepare_one, settings=self.settings)
        for (index, raw), result in zip(block, self.map(work, (raw for _, raw in block)), strict=True):
            progress(1)
            if isinstance(result, MoleculeError):
                failures.append(Failure.of(result, index=index, text=raw.smiles, name=raw.name))
                continue
            dropped.update(result.dropped)
            molecule = result.conformers.molecule
            entries.append(ShardEntry(conformers=result.conformers, split=self.split(molecule, raw)))
        line: dict[str, Any] = {"name": name, "molecules": 0, "conformers": 0}
        if entries:
            attributes = {"configuration": self.digest, "rdkit": rdkit.__version__}
            line = write_shard(self.out / name, entries, attributes=attributes)
        return line | {
            "requested": len(block),
            "dropped": dict(dropped),
            "failures": [asdict(f) for f in failures],
        }

    def _record(self, name: str, line: dict[str, Any]) -> None:
        """Enter a finished unit into the manifest, which runs that joined write in turns."""
        with exclusive(self.out / (MANIFEST + CLAIM), wait=True):
            units = _listed_units(self.out, self.digest) | {name: line}
            write_manifest(self.out, self.configuration, self.digest, dict(sorted(units.items())))


def _splitter(split: str, formats: list[str]) -> Callable[[Molecule, RawEnsemble], str]:
    """Part of each molecule of the sources.

    Raises:
        InputError: For an unusable split file, or ``keep`` where a source has no split of its own.
    """
    if split == _KEEP:
        if set(formats) != {"shards"}:
            raise InputError("--split keep is for shards, which know their split")
        return lambda molecule, raw: raw.split
    chosen = make_splitter(split)
    return lambda molecule, raw: chosen(molecule, raw.position)


def _read_all(sources: list[Path], formats: list[str]) -> Iterator[RawEnsemble]:
    for source, name in zip(sources, formats, strict=True):
        yield from READERS[name](source)


class _Excluding:
    """Leaves out molecules by name or connectivity, and counts them."""

    def __init__(self, settings: PreprocessSettings) -> None:
        self.count = 0
        self._names = settings.exclude_names
        self._keys: set[str] = set()
        for path in settings.exclude_smiles:
            self._keys |= {connectivity_key(record.smiles) for record in read_inputs(path)} - {""}

    def __call__(self, ensembles: Iterator[RawEnsemble]) -> Iterator[RawEnsemble]:
        for raw in ensembles:
            if any(fnmatch.fnmatchcase(raw.name, pattern) for pattern in self._names) or (
                self._keys and connectivity_key(raw.smiles) in self._keys
            ):
                self.count += 1
            else:
                yield raw


def connectivity_key(smiles: str) -> str:
    """First block of the InChIKey: the same for all stereoisomers; empty where InChI has none."""
    mol = Chem.MolFromSmiles(smiles)
    return "" if mol is None else Chem.MolToInchiKey(mol).partition("-")[0]


def _prepare_one(raw: RawEnsemble, settings: PreprocessSettings) -> Prepared:
    fault_point(f"molecule.{raw.name}")
    prepared = prepare(raw, max_confs=settings.max_confs)
    if settings.seeds is None or len(prepared.conformers) == 0:
        return prepared
    seeded = with_seeds(prepared.conformers, settings.seeds, seed=settings.seed)
    return Prepared(conformers=seeded, dropped=prepared.dropped)


def _listed_units(out: Path, digest: str) -> dict[str, dict[str, Any]]:
    """Lines of the manifest, by the name of their shard."""
    if not (out / MANIFEST).is_file():
        return {}
    manifest = read_manifest(out)
    if manifest.get("configuration_sha256") != digest:
        raise InputError(f"{out} holds shards of other sources or settings: choose another folder")
    return {line["name"]: line for line in [*manifest["shards"], *manifest["empty_units"]]}


def _is_whole(out: Path, line: dict[str, Any]) -> bool:
    """Whether the shard of a line is there as it was written; an empty unit has none."""
    path = out / line["name"]
    return "sha256" not in line or (path.is_file() and file_digest(path) == line["sha256"])


def write_manifest(out: Path, configuration: dict[str, Any], digest: str, units: dict[str, dict[str, Any]]) -> None:
    """Write the manifest of a shard folder: settings, counts, and a line for each unit of work."""
    summary = summarise_units(units)
    write_manifest_file(
        out,
        {
            "schema": 1,
            "configuration": configuration,
            "configuration_sha256": digest,
            "requested": summary.requested,
            "molecules": summary.done,
            "failed": summary.failed,
            "conformers": summary.conformers,
            "dropped": summary.dropped,
            "shards": [u for u in units.values() if u["molecules"]],
            "empty_units": [u for u in units.values() if not u["molecules"]],
        },
    )


def summarise_units(units: dict[str, dict[str, Any]]) -> PreprocessSummary:
    """Counts over all units of work."""
    dropped: Counter[str] = Counter()
    for unit in units.values():
        dropped.update(unit["dropped"])
    failures = [Failure(**f) for unit in units.values() for f in unit["failures"]]
    requested = sum(unit["requested"] for unit in units.values())
    done = sum(unit["molecules"] for unit in units.values())
    assert requested == done + len(failures)
    return PreprocessSummary(
        requested=requested,
        done=done,
        failed=len(failures),
        conformers=sum(unit["conformers"] for unit in units.values()),
        dropped=dict(dropped),
        failures=failures,
    )


def check_sources(sources: list[Path], settings: PreprocessSettings) -> dict[str, Any]:
    """Read every source without making anything; counts of molecules, conformers and problems.

    Raises:
        InputError: As ``preprocess``.
    """
    formats = [detect_format(s) if settings.format == "auto" else settings.format for s in sources]
    _splitter(settings.split, formats)
    filtered = _Excluding(settings)
    counts: Counter[str] = Counter()
    for raw in filtered(_read_all(sources, formats)):
        counts["requested"] += 1
        try:
            prepared = prepare(raw, max_confs=settings.max_confs)
            counts["conformers"] += len(prepared.conformers)
            counts.update({f"dropped {k}": v for k, v in prepared.dropped.items()})
        except MoleculeError as error:
            counts[f"failed {error.reason}"] += 1
    return {**counts, "excluded": filtered.count}
