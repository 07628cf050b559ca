"""Writers of generated conformers, by suffix. A file appears under its name only when it is complete."""

import gzip
import io
import os
import pickle
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from rdkit import Chem

from conformergen.chem import ELEMENT_SYMBOLS, mol_with_conformers
from conformergen.datasets.shards import ShardEntry, write_shard
from conformergen.errors import InputError
from conformergen.records import RUNGS, ConformerSet
from conformergen.storage import commit_bytes, sync_folder


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """What every record says about its making."""

    seed: int
    model: str
    settings: str = ""


class Writer(ABC):
    """Receives one molecule at a time; ``close`` makes the result visible."""

    @abstractmethod
    def write(self, conformers: ConformerSet, provenance: Provenance) -> None:
        """Add the conformers of one molecule."""

    @abstractmethod
    def close(self) -> None:
        """Finish and rename into place."""

    @abstractmethod
    def discard(self, *, keep: bool = False) -> None:
        """Stop; leave nothing behind, or what is committed."""


class TextWriter(Writer):
    """Text that grows in ``OUT.partial``, gzipped by suffix.

    A later writer can go on from any commit: each ends a gzip member, and members joined are a gzip file.
    """

    def __init__(self, path: Path, *, resume_at: int = 0) -> None:
        self.path = path
        self.temporary = path.with_name(f"{path.name}.partial")
        if resume_at:
            if not self.temporary.exists() and path.exists():  # killed between the last rename and the journal's end
                os.replace(path, self.temporary)
            if not self.temporary.exists() or self.temporary.stat().st_size < resume_at:
                raise InputError(f"{self.temporary}: less is there than the journal says; start without --resume")
            os.truncate(self.temporary, resume_at)
        self._file = self.temporary.open("ab" if resume_at else "wb")
        self._member: gzip.GzipFile | None = None

    def text(self, text: str) -> None:
        """Append."""
        data = text.encode("utf-8")
        if self.path.suffix != ".gz":
            self._file.write(data)
            return
        if self._member is None:
            # No file name and no time stamp: the same conformers give the same bytes.
            self._member = gzip.GzipFile(filename="", mode="wb", fileobj=self._file, mtime=0)
        self._member.write(data)

    def commit(self) -> int:
        """Bring everything to the disk; its size in bytes."""
        if self._member is not None:
            self._member.close()
            self._member = None
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._file.tell()

    def close(self) -> None:
        if self.path.suffix == ".gz" and self._file.tell() == 0:
            self.text("")  # an empty file is no gzip file
        self.commit()
        self._file.close()
        os.replace(self.temporary, self.path)
        sync_folder(self.path.parent)

    def discard(self, *, keep: bool = False) -> None:
        if self._member is not None:
            self._member.close()
        self._file.close()
        if not keep:
            self.temporary.unlink(missing_ok=True)


class SdfWriter(TextWriter):
    """One SDF record per conformer."""

    def write(self, conformers: ConformerSet, provenance: Provenance) -> None:
        self.text(sdf_text(conformers, provenance))


class StdoutWriter(Writer):
    """SDF on standard output."""

    def write(self, conformers: ConformerSet, provenance: Provenance) -> None:
        sys.stdout.write(sdf_text(conformers, provenance))

    def close(self) -> None:
        sys.stdout.flush()

    def discard(self, *, keep: bool = False) -> None:
        del keep
        sys.stdout.flush()


class XyzWriter(TextWriter):
    """Multi-frame XYZ; the comment holds the relative energy first, as in CREST's files, then title and index."""

    def write(self, conformers: ConformerSet, provenance: Provenance) -> None:
        del provenance
        symbols = [ELEMENT_SYMBOLS[z] for z in conformers.molecule.graph.atomic_numbers]
        for index, positions in enumerate(conformers.positions):
            energy = "" if conformers.energies is None else f"{conformers.energies[index]:.4f} "
            rows = [f"{s} {x:.6f} {y:.6f} {z:.6f}" for s, (x, y, z) in zip(symbols, positions, strict=True)]
            title = " ".join(conformers.molecule.name.split())
            self.text("\n".join([str(len(symbols)), f"{energy}{title} {index}", *rows]) + "\n")


class _WholeWriter(Writer):
    """Keeps everything in memory until the end."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def discard(self, *, keep: bool = False) -> None:
        del keep


class PickleWriter(_WholeWriter):
    """``{smiles: [Mol]}``, the layout that published evaluators read; keys are the input texts."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.mols: dict[str, list[Chem.Mol]] = {}

    def write(self, conformers: ConformerSet, provenance: Provenance) -> None:
        del provenance
        molecule = conformers.molecule
        mols = [mol_with_conformers(molecule, p[None]) for p in conformers.positions]
        self.mols.setdefault(molecule.source_smiles, []).extend(mols)

    def close(self) -> None:
        commit_bytes(self.path, pickle.dumps(self.mols))


class ShardWriter(_WholeWriter):
    """One HDF5 shard."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.entries: list[ShardEntry] = []

    def write(self, conformers: ConformerSet, provenance: Provenance) -> None:
        del provenance
        self.entries.append(ShardEntry(conformers=conformers, split="test"))

    def close(self) -> None:
        if self.entries:
            write_shard(self.path, self.entries)


WRITERS: Final[Mapping[str, type[TextWriter | _WholeWriter]]] = {
    ".sdf": SdfWriter,
    ".xyz": XyzWriter,
    ".h5": ShardWriter,
    ".pkl": PickleWriter,
}


def writer_class(out: str) -> type[Writer]:
    """Kind of writer by suffix; ``-`` is SDF on standard output.

    Raises:
        InputError: For an unknown suffix or a missing folder.
    """
    if out == "-":
        return StdoutWriter
    path = Path(out)
    suffix = Path(path.name.removesuffix(".gz")).suffix.lower()
    if suffix not in WRITERS or (path.suffix == ".gz" and suffix not in (".sdf", ".xyz")):
        raise InputError(f"{out}: output ends in {', '.join(WRITERS)}, .sdf.gz or .xyz.gz")
    if not path.parent.is_dir():
        raise InputError(f"{path.parent}: no such folder")
    return WRITERS[suffix]


def open_writer(out: str, *, resume_at: int = 0) -> Writer:
    """Writer by suffix, from a place where an earlier one was committed.

    Raises:
        InputError: As ``writer_class``, and where less is there than was committed.
    """
    kind = writer_class(out)
    if issubclass(kind, TextWriter):
        return kind(Path(out), resume_at=resume_at)
    return kind(Path(out)) if issubclass(kind, _WholeWriter) else kind()


def sdf_text(conformers: ConformerSet, provenance: Provenance) -> str:
    """SDF records of one molecule."""
    molecule = conformers.molecule
    mol = mol_with_conformers(molecule, conformers.positions)
    mol.SetProp("_Name", " ".join(molecule.name.splitlines()))
    buffer = io.StringIO()
    writer = Chem.SDWriter(buffer)
    writer.SetKekulize(True)  # noqa: FBT003  RDKit takes no keyword
    for index in range(len(conformers)):
        fields = {
            "conformergen_smiles": molecule.smiles,
            "conformergen_stereo": molecule.stereo,
            "conformer": str(index),
            "energy_kcal": _number(conformers.energies, index, "{:.4f}"),
            "energy_method": conformers.energy_method,
            "boltzmann_weight": _number(conformers.weights, index, "{:.6f}"),
            "seed": str(provenance.seed),
            "model": provenance.model,
            "settings": provenance.settings,
            "rung": "" if conformers.rungs is None else RUNGS[conformers.rungs[index]],
        }
        for key, value in fields.items():
            mol.SetProp(key, value)
        writer.write(mol, confId=index)
    writer.close()
    return buffer.getvalue()


def _number(values: np.ndarray | None, index: int, form: str) -> str:
    return "" if values is None else form.format(values[index])
