"""Readers by name. To add one: a file beside these and a line here."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from conformergen.datasets.readers import geom_rdkit, mols_pickle, sdf, shards, smiles, xyz
from conformergen.datasets.readers.interface import RawEnsemble, Reader
from conformergen.datasets.shards import MANIFEST
from conformergen.errors import InputError

READERS: Final[Mapping[str, Reader]] = {
    "geom-rdkit": geom_rdkit.read,
    "mols-pickle": mols_pickle.read,
    "sdf": sdf.read,
    "shards": shards.read,
    "smiles": smiles.read,
    "xyz": xyz.read,
}

__all__ = ["READERS", "RawEnsemble", "Reader", "detect_format"]


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
        if geom_rdkit.find_summaries(source):
            return "geom-rdkit"
        raise InputError(f"{source}: neither {MANIFEST} nor a GEOM summary JSON in this folder")
    name = source.name.lower().removesuffix(".gz")
    if name == MANIFEST:
        return "shards"
    by_suffix = {
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
    suffix = Path(name).suffix
    if suffix not in by_suffix:
        raise InputError(f"{source}: cannot tell the format from {suffix or 'the name'}; give --format")
    return by_suffix[suffix]
