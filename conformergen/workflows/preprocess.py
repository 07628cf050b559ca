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
from conformergen.records import Failure
from conformergen.storage import exclusive_output, json_digest
from conformergen.workflows.pool import map_molecules

#: Seconds of wall time for one molecule, seeds included.
_TIMEOUT: Final = 900.0


@dataclass(frozen=True, kw_only=True)
class PreprocessSettings:
    """What the shards hold.

    Attributes:
        format: Reader, or ``auto``.
        split: ``random``, ``scaffold``, ``train`` (everything), or a split file.
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


@exclusive_output
def preprocess(
    sources: list[Path],
    out: Path,
    settings: PreprocessSettings,
    *,
    jobs: int = 1,
    progress: Callable[[int], None] = lambda n: None,
) -> PreprocessSummary:
    """Read, clean, pair with seeds and write shards.

    Raises:
        InputError: For unreadable sources, or an output folder of other settings.
        LockedError: When another run works on ``out``.
    """
    formats = [detect_format(s) if settings.format == "auto" else settings.format for s in sources]
    split = make_splitter(settings.split)
    configuration = {"sources": [str(s) for s in sources], **asdict(settings)}
    digest = json_digest(configuration)
    units = _finished_units(out, digest)
    work = partial(_prepare_one, settings=settings)
    filtered = _Excluding(settings)
    stream = enumerate(filtered(_read_all(sources, formats)))
    for unit in itertools.count():
        block = list(itertools.islice(stream, settings.molecules_per_shard))
        if not block:
            break
        name = f"shard-{unit:05d}.h5"
        if name in units:
            progress(len(block))
            continue
        entries, failures, dropped = [], [], Counter[str]()
        for (index, raw), result in zip(block, map_molecules(
            work, (raw for _, raw in block), jobs=jobs, timeout=_TIMEOUT
        ), strict=True):  # fmt: skip
            progress(1)
            if isinstance(result, MoleculeError):
                failures.append(Failure.of(result, index=index, text=raw.smiles, name=raw.name))
                continue
            dropped.update(result.dropped)
            molecule = result.conformers.molecule
            entries.append(ShardEntry(conformers=result.conformers, split=split(molecule, raw.position)))
        line: dict[str, Any] = {"name": name, "molecules": 0, "conformers": 0}
        if entries:
            line = write_shard(out / name, entries, attributes={"configuration": digest, "rdkit": rdkit.__version__})
        units[name] = line | {
            "requested": len(block),
            "dropped": dict(dropped),
            "failures": [asdict(f) for f in failures],
        }
        write_manifest(out, configuration, digest, units)
    write_manifest(out, configuration, digest, units)
    return replace(summarise_units(units), excluded=filtered.count)


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
    prepared = prepare(raw, max_confs=settings.max_confs)
    if settings.seeds is None or len(prepared.conformers) == 0:
        return prepared
    seeded = with_seeds(prepared.conformers, settings.seeds, seed=settings.seed)
    return Prepared(conformers=seeded, dropped=prepared.dropped)


def _finished_units(out: Path, digest: str) -> dict[str, dict[str, Any]]:
    if not (out / MANIFEST).is_file():
        return {}
    manifest = read_manifest(out)
    if manifest.get("configuration_sha256") != digest:
        raise InputError(f"{out} holds shards of other sources or settings: choose another folder")
    lines = [*manifest["shards"], *manifest["empty_units"]]
    good = [s for s in lines if "sha256" not in s or (
        (out / s["name"]).is_file() and file_digest(out / s["name"]) == s["sha256"]
    )]  # fmt: skip
    return {s["name"]: s for s in good}


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
    make_splitter(settings.split)
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
