"""Training, validation and test parts by molecule: from a file, at random, or by scaffold; never by conformer."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
from rdkit import Chem
from rdkit.Chem.Scaffolds import MurckoScaffold

from conformergen.errors import InputError
from conformergen.io.sandbox.process import load_split_array
from conformergen.records import Molecule

#: Shares of GeoMol's split 0 (Ganea et al. 2021, arXiv 2106.07802): 80 / 10 / 10.
SHARES: Final = (0.8, 0.1, 0.1)
Splitter = Callable[[Molecule, int], str]


def _by_digest(text: str) -> str:
    """Split of a text by its digest: the same on every machine, whatever else the data set contains."""
    fraction = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64
    return "train" if fraction < SHARES[0] else "val" if fraction < SHARES[0] + SHARES[1] else "test"


def _flat_smiles(molecule: Molecule) -> str:
    """SMILES without stereo: isomers of one compound stay in one split."""
    return Chem.MolToSmiles(Chem.MolFromSmiles(molecule.smiles), isomericSmiles=False)


def random_split(molecule: Molecule, position: int) -> str:
    """Split by a digest of the flat SMILES."""
    del position
    return _by_digest(_flat_smiles(molecule))


def scaffold_split(molecule: Molecule, position: int) -> str:
    """Split by a digest of the Murcko scaffold (Bemis, Murcko 1996, doi 10.1021/jm9602928)."""
    del position
    scaffold = MurckoScaffold.MurckoScaffoldSmiles(mol=Chem.MolFromSmiles(molecule.smiles))
    return _by_digest(scaffold or _flat_smiles(molecule))


def all_train(molecule: Molecule, position: int) -> str:
    """Put every molecule into the training part."""
    del molecule, position
    return "train"


#: Splitters by name.
SPLITTERS: Final[dict[str, Splitter]] = {
    "random": random_split,
    "scaffold": scaffold_split,
    "train": all_train,
}


def file_split(path: Path) -> Splitter:
    """Splitter from indices into the sorted list of source files (GeoMol's ``split0.npy`` semantics).

    Args:
        path: ``.npy`` object array of three index arrays, ``.npz`` or ``.json`` with train, val, test.

    Raises:
        InputError: For a missing or unreadable file.
    """
    if not path.is_file():
        raise InputError(f"{path} is neither a file nor one of {', '.join(SPLITTERS)}", setting="split")
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as stored:
                parts = [stored[name] for name in ("train", "val", "test")]
        elif path.suffix == ".json":
            content = json.loads(path.read_text())
            parts = [np.array(content[name]) for name in ("train", "val", "test")]
        else:
            parts = load_split_array(path)
    except (KeyError, ValueError, OSError) as error:
        raise InputError(f"{path} does not hold train, val and test indices ({error})", setting="split") from error
    lookup = {int(i): name for name, part in zip(("train", "val", "test"), parts, strict=True) for i in part}

    def split(molecule: Molecule, position: int) -> str:
        del molecule
        if position not in lookup:
            raise InputError(f"{path} has no entry for source file {position}", setting="split")
        return lookup[position]

    return split


def make_splitter(name: str) -> Splitter:
    """Splitter by name or file.

    Raises:
        InputError: As ``file_split``.
    """
    return SPLITTERS[name] if name in SPLITTERS else file_split(Path(name))
