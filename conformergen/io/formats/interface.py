"""What a reader yields, and what a writer receives."""

import gzip
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from rdkit import Chem

from conformergen.errors import InputError
from conformergen.records import ConformerSet
from conformergen.runtime.files import sync_folder


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class RawEnsemble:
    """One molecule of a source as it stands there: nothing is filtered or reordered yet.

    Attributes:
        smiles: SMILES of the source; empty when only the 3D structures say what the molecule is.
        name: Title or id.
        conformers: Molecules with explicit hydrogens and one 3D conformer each; may be empty.
        energies: Relative energies in kcal/mol, or None.
        weights: Boltzmann weights, or None.
        energy_method: Method of the energies.
        position: Index of the source file or group of records, for split files.
        split: Part of a data set, where the source states it, as shards do.
        error: Why the source could not be read; there are no conformers then.
        references: Reference conformers, in files that hold samples together with what they are compared with.
    """

    smiles: str
    name: str
    conformers: list[Chem.Mol]
    energies: list[float] | None = None
    weights: list[float] | None = None
    energy_method: str = ""
    position: int = 0
    split: str = ""
    error: str = ""
    references: list[Chem.Mol] = field(default_factory=list)


class Reader(Protocol):
    """Yield every molecule of a source, in an order that depends on the source alone."""

    def __call__(self, source: Path) -> Iterator[RawEnsemble]:
        """Read ``source``."""
        ...


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """How the conformers of a run were made; written into every SDF record.

    Attributes:
        seed: Seed of all random numbers.
        model: Name of the model or method.
        settings: Settings that a reader of the output should know.
        networks: SHA-256 of each network that took part, by its role (denoiser, ranker, torsion model).
    """

    seed: int
    model: str
    settings: str = ""
    networks: Mapping[str, str] = field(default_factory=dict)

    @property
    def short_digests(self) -> str:
        """The first 16 characters of the digest of each network, in one line."""
        return " ".join(f"{role}={digest[:16]}" for role, digest in self.networks.items())


class Writer(ABC):
    """Receives one molecule at a time; ``close`` makes the result visible under its name."""

    @abstractmethod
    def write(self, conformers: ConformerSet, provenance: Provenance) -> None:
        """Add the conformers of one molecule."""

    @abstractmethod
    def close(self) -> None:
        """Finish the file and rename it into place."""

    @abstractmethod
    def discard(self, *, keep: bool = False) -> None:
        """Stop without a result; with ``keep``, what was committed stays for a resumed run."""


class TextWriter(Writer):
    """Writes text to ``OUT.partial``, compressed where the name ends in ``.gz``.

    A later writer can continue from any commit: each commit ends a gzip member, and joined members are a gzip file.
    """

    def __init__(self, path: Path, *, resume_at: int = 0) -> None:
        self.path = path
        self.temporary = path.with_name(f"{path.name}.partial")
        if resume_at:
            if not self.temporary.exists() and path.exists():  # killed between the last rename and the journal's end
                os.replace(path, self.temporary)
            if not self.temporary.exists() or self.temporary.stat().st_size < resume_at:
                raise InputError(f"{self.temporary} is shorter than its journal says; start without --resume")
            os.truncate(self.temporary, resume_at)
        self._file = self.temporary.open("ab" if resume_at else "wb")
        self._member: gzip.GzipFile | None = None

    def text(self, text: str) -> None:
        """Append text."""
        data = text.encode("utf-8")
        if self.path.suffix != ".gz":
            self._file.write(data)
            return
        if self._member is None:
            # Without file name and time stamp the same conformers give the same bytes.
            self._member = gzip.GzipFile(filename="", mode="wb", fileobj=self._file, mtime=0)
        self._member.write(data)

    def commit(self) -> int:
        """Flush everything to disk; returns the size in bytes."""
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


class WholeFileWriter(Writer):
    """Keeps everything in memory until the end."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def discard(self, *, keep: bool = False) -> None:
        del keep
