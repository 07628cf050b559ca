"""HDF5 shards: ragged arrays, concatenated with offsets; written once and listed in a manifest."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from conformergen.errors import DataError
from conformergen.io.hdf5 import pack_arrays, parse_arrays
from conformergen.io.manifest import ShardLine, read_manifest
from conformergen.io.sandbox.process import shared_reader
from conformergen.records import ATOM_FEATURES, ConformerSet, Molecule, MolGraph
from conformergen.runtime.files import commit_bytes, file_digest

#: Parts of a data set; a shard stores the index of a molecule's part.
SPLITS: Final = ("train", "val", "test")
#: Values of ``Molecule.stereo``; a shard stores the index.
_STEREO: Final = ("requested", "sampled")


@dataclass(frozen=True, kw_only=True)
class ShardEntry:
    """One molecule of a shard and the split it belongs to."""

    conformers: ConformerSet
    split: str = "train"


def _offsets(lengths: Sequence[int]) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64)


def _text(values: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    encoded = [v.encode() for v in values]
    return np.frombuffer(b"".join(encoded), dtype=np.uint8), _offsets([len(e) for e in encoded])


def _arrays(entries: Sequence[ShardEntry]) -> dict[str, np.ndarray]:
    sets = [e.conformers for e in entries]
    molecules = [s.molecule for s in sets]
    graphs = [m.graph for m in molecules]

    def joined(name: str, dtype: str) -> np.ndarray:
        return np.concatenate([getattr(g, name) for g in graphs]).astype(dtype)

    def per_conformer(name: str, dtype: str, missing: float) -> np.ndarray:
        values = [getattr(s, name) for s in sets]
        filled = [np.full(len(s), missing) if v is None else v for s, v in zip(sets, values, strict=True)]
        return np.concatenate(filled).astype(dtype)

    arrays = {
        "atomic_numbers": joined("atomic_numbers", "u1"),
        "atom_features": joined("atom_features", "u1"),
        "atom_offsets": _offsets([g.n_atoms for g in graphs]),
        "bonds": joined("bonds", "u2"),
        "bond_types": joined("bond_types", "u1"),
        "bond_offsets": _offsets([len(g.bonds) for g in graphs]),
        "centres": joined("centres", "u2"),
        "handedness": joined("handedness", "i1"),
        "centre_offsets": _offsets([len(g.centres) for g in graphs]),
        "double_bonds": joined("double_bonds", "u2"),
        "cis": joined("cis", "i1"),
        "double_offsets": _offsets([len(g.double_bonds) for g in graphs]),
        "positions": np.concatenate([s.positions.reshape(-1, 3) for s in sets]).astype("f4"),
        "position_offsets": _offsets([len(s) * s.molecule.graph.n_atoms for s in sets]),
        "conf_offsets": _offsets([len(s) for s in sets]),
        "energies": per_conformer("energies", "f4", np.nan),
        "weights": per_conformer("weights", "f4", np.nan),
        "source_idx": per_conformer("source_idx", "i4", -1),
        "molecule_key": np.frombuffer(b"".join(m.key for m in molecules), dtype=np.uint8).reshape(-1, 16),
        "split": np.array([SPLITS.index(e.split) for e in entries], dtype="u1"),
        "stereo": np.array([_STEREO.index(m.stereo) for m in molecules], dtype="u1"),
    }
    if all(s.starts is not None for s in sets):
        # The array has kept its name, so that older shards stay readable.
        arrays["seeds"] = np.concatenate([s.starts.reshape(-1, 3) for s in sets if s.starts is not None]).astype("f4")
    texts = {
        "smiles": [m.smiles for m in molecules],
        "names": [m.name for m in molecules],
        "source_smiles": [m.source_smiles for m in molecules],
        "energy_methods": [s.energy_method for s in sets],
    }
    for name, values in texts.items():
        arrays[name], arrays[f"{name}_offsets"] = _text(values)
    return arrays


def content_digest(arrays: dict[str, np.ndarray]) -> str:
    """SHA-256 over names, shapes, dtypes and little-endian values; a change of zlib or HDF5 does not affect it."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        little = array.astype(array.dtype.newbyteorder("<"))
        digest.update(f"{name}|{little.dtype.str}|{little.shape}|".encode())
        digest.update(little.tobytes())
    return digest.hexdigest()


def write_shard(path: Path, entries: Sequence[ShardEntry], *, attributes: dict[str, str] | None = None) -> ShardLine:
    """Write a shard under a temporary name, verify it and rename it; returns its manifest line.

    Raises:
        DataError: When the file read back differs from what was written.
    """
    arrays = _arrays(entries)
    expected = content_digest(arrays)
    facts = {"units": "angstrom, kcal/mol", "atom_features": "; ".join(ATOM_FEATURES), **(attributes or {})}
    image = pack_arrays(arrays, facts)

    def verify(temporary: Path) -> None:
        if content_digest(parse_arrays(temporary.read_bytes())) != expected:
            raise DataError(f"{path}: the file does not contain what was written")

    commit_bytes(path, image, verify=verify)
    return ShardLine(
        name=path.name,
        molecules=len(entries),
        conformers=int(arrays["conf_offsets"][-1]),
        atoms=int(arrays["atom_offsets"][-1]),
        largest=int(np.diff(arrays["atom_offsets"]).max(initial=0)),
        splits={s: int((arrays["split"] == i).sum()) for i, s in enumerate(SPLITS)},
        bytes=len(image),
        sha256=hashlib.sha256(image).hexdigest(),
        content_sha256=expected,
    )


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """All datasets of a shard, parsed in a disposable process.

    Raises:
        DataError: When HDF5 cannot read the file, when it holds anything but plain arrays, or when the content is not
            what was written.
    """
    return shared_reader().load(path)[1]


def read_folder(folder: Path, *, split: str | None = None) -> Iterator[ConformerSet]:
    """Yield the ensembles of a shard folder, or those of one split; raises what ``read_entries`` raises."""
    return (entry.conformers for entry in read_entries(folder) if split is None or entry.split == split)


def read_entries(folder: Path) -> Iterator[ShardEntry]:
    """Yield the molecules of a shard folder; each shard is first checked against the manifest.

    Raises:
        DataError: For a shard whose digest is not the manifest's, or with impossible offsets.
    """
    for line in read_manifest(folder).shards:
        path = folder / line.name
        if path.parent != folder or not path.is_file():
            raise DataError(f"{folder}: shard {line.name!r} is missing")
        if file_digest(path) != line.sha256:
            raise DataError(f"{path}: SHA-256 differs from the manifest")
        yield from read_shard(path)


def read_shard(path: Path) -> list[ShardEntry]:
    """Decode one shard.

    Raises:
        DataError: When datasets are missing or offsets impossible.
    """
    arrays = read_arrays(path)
    try:
        _plausible(arrays)
        return [_entry(arrays, index) for index in range(len(arrays["split"]))]
    except (KeyError, IndexError, ValueError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: damaged shard ({error})") from error


def _plausible(arrays: dict[str, np.ndarray]) -> None:
    """Refuse arrays that cannot belong to molecules.

    Raises:
        ValueError: With what is wrong.
        KeyError: For a missing array.
    """
    for name in ("atom_offsets", "bond_offsets", "conf_offsets", "position_offsets"):
        offsets = arrays[name]
        if offsets.ndim != 1 or len(offsets) == 0 or offsets[0] != 0 or (np.diff(offsets) < 0).any():
            raise ValueError(f"{name} do not rise from 0")
    atoms = np.diff(arrays["atom_offsets"])
    bonds = np.repeat(atoms, np.diff(arrays["bond_offsets"]))
    if len(bonds) != len(arrays["bonds"]) or (arrays["bonds"] >= bonds[:, None]).any():
        raise ValueError("bonds outside their molecule")
    if not np.isfinite(arrays["positions"]).all():
        raise ValueError("positions that are no numbers")
    numbers = arrays["atomic_numbers"]
    if len(numbers) and not 1 <= numbers.min() <= numbers.max() <= 118:
        raise ValueError("elements outside 1 to 118")


def _entry(arrays: dict[str, np.ndarray], index: int) -> ShardEntry:
    def part(name: str, offsets: str) -> np.ndarray:
        begin, end = arrays[offsets][index : index + 2]
        if not 0 <= begin <= end <= len(arrays[name]):
            raise ValueError(f"offsets of {name} are out of range")
        return arrays[name][begin:end]

    def text(name: str) -> str:
        return part(name, f"{name}_offsets").tobytes().decode()

    graph = MolGraph(
        atomic_numbers=part("atomic_numbers", "atom_offsets"),
        atom_features=part("atom_features", "atom_offsets"),
        bonds=part("bonds", "bond_offsets").astype(np.int32),
        bond_types=part("bond_types", "bond_offsets"),
        centres=part("centres", "centre_offsets").astype(np.int32),
        handedness=part("handedness", "centre_offsets"),
        double_bonds=part("double_bonds", "double_offsets").astype(np.int32),
        cis=part("cis", "double_offsets"),
    )
    n = graph.n_atoms
    energies = part("energies", "conf_offsets").astype(np.float64)
    weights = part("weights", "conf_offsets").astype(np.float64)
    conformers = ConformerSet(
        molecule=Molecule(
            smiles=text("smiles"),
            name=text("names"),
            graph=graph,
            source_smiles=text("source_smiles"),
            stereo=_STEREO[int(arrays["stereo"][index])],
        ),
        positions=part("positions", "position_offsets").reshape(-1, n, 3),
        energies=None if np.isnan(energies).any() else energies,
        weights=None if np.isnan(weights).any() else weights,
        starts=part("seeds", "position_offsets").reshape(-1, n, 3) if "seeds" in arrays else None,
        source_idx=part("source_idx", "conf_offsets"),
        energy_method=text("energy_methods"),
    )
    return ShardEntry(conformers=conformers, split=SPLITS[int(arrays["split"][index])])
