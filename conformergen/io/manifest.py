"""The manifest of a shard folder: settings, counts, and a line with digests for each shard."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Final

from conformergen.errors import DataError, InputError
from conformergen.io.aliases import modern_configuration
from conformergen.records import Failure
from conformergen.runtime.files import json_digest, write_json

#: File name of a manifest.
MANIFEST: Final = "manifest.json"
#: Key of the digest that a manifest contains of itself.
_SELF_DIGEST: Final = "manifest_sha256"
#: Version of the layout of shards and manifests.
_SCHEMA: Final = 1


@dataclass(frozen=True, kw_only=True)
class ShardLine:
    """One unit of work: a shard, or a unit of which no molecule was left.

    Attributes:
        name: File name; an empty unit has no file.
        molecules: Molecules in the shard.
        conformers: Conformers in the shard.
        atoms: Atoms in the shard, each molecule counted once.
        largest: Atoms of the largest molecule.
        splits: Molecules of each split.
        bytes: Size of the file.
        sha256: Digest of the file; empty for an empty unit.
        content_sha256: Digest of the arrays, which a change of HDF5 or zlib leaves as it is.
        requested: Source molecules of the unit.
        dropped: Conformers left out, by reason.
        failures: Source molecules without a result.
    """

    name: str
    molecules: int = 0
    conformers: int = 0
    atoms: int = 0
    largest: int = 0
    splits: Mapping[str, int] = field(default_factory=dict)
    bytes: int = 0
    sha256: str = ""
    content_sha256: str = ""
    requested: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)
    failures: tuple[Failure, ...] = ()

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "ShardLine":
        """Line from its JSON object; keys of other versions are ignored.

        Raises:
            KeyError: For a missing name.
            TypeError: For values of the wrong type.
        """
        known = {f.name for f in fields(cls)}
        kept = {key: value for key, value in values.items() if key in known}
        if not isinstance(kept["name"], str) or not isinstance(kept.get("molecules", 0), int):
            raise TypeError("not a line of a shard")
        return cls(**kept | {"failures": tuple(Failure(**f) for f in values.get("failures", ()))})


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a shard folder holds.

    Attributes:
        configuration: Settings that made the shards, as plain JSON data.
        units: Every unit of work, in the order of the names.
    """

    configuration: Mapping[str, Any]
    units: tuple[ShardLine, ...]

    @property
    def shards(self) -> tuple[ShardLine, ...]:
        """Units that have a file."""
        return tuple(line for line in self.units if line.molecules)

    @property
    def configuration_digest(self) -> str:
        """Names the settings: a resumed run compares it."""
        return json_digest(self.configuration)

    @property
    def requested(self) -> int:
        """Number of source molecules."""
        return sum(line.requested for line in self.units)

    @property
    def molecules(self) -> int:
        """Number of molecules in the shards."""
        return sum(line.molecules for line in self.units)

    @property
    def conformers(self) -> int:
        """Number of conformers in the shards."""
        return sum(line.conformers for line in self.units)

    @property
    def failures(self) -> list[Failure]:
        """Source molecules without a result."""
        return [failure for line in self.units for failure in line.failures]

    @property
    def dropped(self) -> dict[str, int]:
        """Conformers left out, by reason."""
        total: Counter[str] = Counter()
        for line in self.units:
            total.update(line.dropped)
        return dict(total)

    @property
    def starts_are_minimised(self) -> bool | None:
        """Whether the start structures in the shards were minimised with MMFF94s; None without start structures."""
        starts = self.configuration.get("starts")
        return None if starts is None else bool(starts["mmff94s"])

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data, with the counts that readers look for."""
        lines = [asdict(line) for line in self.units]
        return {
            "schema": _SCHEMA,
            "configuration": dict(self.configuration),
            "configuration_sha256": self.configuration_digest,
            "requested": self.requested,
            "molecules": self.molecules,
            "failed": len(self.failures),
            "conformers": self.conformers,
            "dropped": self.dropped,
            "shards": [line for line in lines if line["molecules"]],
            "empty_units": [line for line in lines if not line["molecules"]],
        }


def read_manifest(folder: Path) -> Manifest:
    """Manifest of a shard folder.

    Raises:
        InputError: When there is none.
        DataError: When it is damaged.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise InputError(f"{folder}: no {MANIFEST}; make shards with 'conformergen preprocess' or 'reference'")
    try:
        values: dict[str, Any] = json.loads(path.read_text())
        expected = values.pop(_SELF_DIGEST, None)
        intact = expected is None or expected == json_digest(values)
        lines = [ShardLine.from_json(line) for line in [*values["shards"], *values.get("empty_units", [])]]
        manifest = Manifest(
            configuration=modern_configuration(values["configuration"]),
            units=tuple(sorted(lines, key=lambda line: line.name)),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: damaged manifest ({error})") from error
    if not intact:
        raise DataError(f"{path}: damaged manifest (its content is not what was written)")
    return manifest


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest of a shard folder with a digest of itself."""
    values = manifest.to_json()
    write_json(folder / MANIFEST, {**values, _SELF_DIGEST: json_digest(values)})
