"""File formats by name; reader and writer of a format are in one file. To add one: a file here and a line below."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from conformergen.errors import InputError
from conformergen.io.formats import geom_folder, mols_pickle, sdf, shard, smiles, xyz
from conformergen.io.formats.interface import Provenance, RawEnsemble, Reader, TextWriter, WholeFileWriter, Writer
from conformergen.io.manifest import MANIFEST

#: Readers by the name of their format.
READERS: Final[Mapping[str, Reader]] = {
    "geom-rdkit": geom_folder.read,
    "mols-pickle": mols_pickle.read,
    "sdf": sdf.read,
    "shards": shard.read,
    "smiles": smiles.read,
    "xyz": xyz.read,
}

#: Writers by the suffix of the file.
WRITERS: Final[Mapping[str, type[TextWriter | WholeFileWriter]]] = {
    ".sdf": sdf.SdfWriter,
    ".xyz": xyz.XyzWriter,
    ".h5": shard.ShardWriter,
    ".pkl": mols_pickle.PickleWriter,
}

#: Suffixes that may be followed by ``.gz`` when writing.
_COMPRESSIBLE: Final = (".sdf", ".xyz")
#: Reader of each suffix.
_BY_SUFFIX: Final[Mapping[str, str]] = {
    ".json": "geom-rdkit",
    ".sdf": "sdf",
    ".smi": "smiles",
    ".csv": "smiles",
    ".h5": "shards",
    ".pkl": "mols-pickle",
    ".pickle": "mols-pickle",
    ".pt": "mols-pickle",
    ".xyz": "xyz",
}

__all__ = [
    "READERS",
    "WRITERS",
    "Provenance",
    "RawEnsemble",
    "Reader",
    "TextWriter",
    "Writer",
    "detect_format",
    "open_writer",
    "read_ensembles",
    "writer_class",
]


def detect_format(source: Path) -> str:
    """Name of the reader for a file or folder.

    Raises:
        InputError: When none fits.
    """
    if not source.exists():
        raise InputError(f"{source}: no such file or folder")
    if source.is_dir():
        if (source / MANIFEST).is_file():
            return "shards"
        if geom_folder.find_summaries(source):
            return "geom-rdkit"
        raise InputError(f"{source}: neither {MANIFEST} nor a GEOM summary JSON in this folder")
    name = source.name.lower().removesuffix(".gz")
    if name == MANIFEST:
        return "shards"
    suffix = Path(name).suffix
    if suffix not in _BY_SUFFIX:
        raise InputError(f"{source}: cannot tell the format from {suffix or 'the name'}; give --format")
    return _BY_SUFFIX[suffix]


def read_ensembles(source: Path) -> list[RawEnsemble]:
    """All readable molecules of a file or folder; a single ``.h5`` file counts as a shard.

    Raises:
        InputError: For an unknown format.
    """
    return [raw for raw in READERS[detect_format(source)](source) if not raw.error]


def writer_class(out: str) -> type[Writer]:
    """Kind of writer by suffix; ``-`` is SDF on standard output.

    Raises:
        InputError: For an unknown suffix or a missing folder.
    """
    if out == "-":
        return sdf.StdoutWriter
    path = Path(out)
    suffix = Path(path.name.removesuffix(".gz")).suffix.lower()
    if suffix not in WRITERS or (path.suffix == ".gz" and suffix not in _COMPRESSIBLE):
        raise InputError(f"{out}: output ends in {', '.join(WRITERS)}, .sdf.gz or .xyz.gz")
    if not path.parent.is_dir():
        raise InputError(f"{path.parent}: no such folder")
    return WRITERS[suffix]


def open_writer(out: str, *, resume_at: int = 0) -> Writer:
    """Open the writer of a suffix, at the size in bytes that an earlier writer had committed.

    Raises:
        InputError: As ``writer_class``, and where the file is shorter than was committed.
    """
    kind = writer_class(out)
    if issubclass(kind, TextWriter):
        return kind(Path(out), resume_at=resume_at)
    return kind(Path(out)) if issubclass(kind, WholeFileWriter) else kind()
