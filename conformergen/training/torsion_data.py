"""Data of the torsion model: torsions of minima, from shards and from files of searched molecules."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final

import numpy as np
from jaxtyping import Float

from conformergen.chem import get_torsions, rotatable_torsions, to_mol
from conformergen.io.shards import read_folder
from conformergen.records import Molecule
from conformergen.torsion.features import TorsionFeatures, torsion_features
from conformergen.training.ranking_data import is_held_out

#: Largest molecule, in atoms with hydrogens.
MAX_ATOMS: Final = 100
#: Largest number of torsions.
MAX_TORSIONS: Final = 16
#: Prefix of the arrays of features in a file; it has kept its name, so that older files stay readable.
_PREFIX: Final = "rotors."


@dataclass(frozen=True, eq=False, kw_only=True)
class TorsionSet:
    """Torsions of minima of one molecule.

    Attributes:
        smiles: Canonical SMILES.
        features: What the model reads of the molecule and of these conformers.
        radians: Torsions.
        energies: kcal/mol above the lowest.
        held_out: Whether the molecule is held out of training.
    """

    smiles: str
    features: TorsionFeatures
    radians: Float[np.ndarray, "conf torsion"]
    energies: Float[np.ndarray, " conf"]
    held_out: bool


def torsion_set(
    molecule: Molecule, positions: Float[np.ndarray, "conf atom 3"], energies: Float[np.ndarray, " conf"]
) -> TorsionSet | None:
    """Torsions of conformers (Å, kcal/mol); None without torsions, and for molecules that are too large."""
    mol = to_mol(molecule)
    quartets = rotatable_torsions(mol)
    if not 0 < len(quartets) <= MAX_TORSIONS or molecule.graph.n_atoms > MAX_ATOMS:
        return None
    positions = positions.astype(np.float64)
    degrees = np.array([get_torsions(mol, p, quartets) for p in positions])
    return TorsionSet(
        smiles=molecule.smiles,
        features=torsion_features(molecule.graph, quartets, positions),
        radians=np.radians(degrees),
        energies=energies - energies.min(),
        held_out=is_held_out(molecule),
    )


def load_torsion_sets(folder: Path) -> Iterator[TorsionSet]:
    """Torsions of a folder of ``.npz`` files or shards with energies."""
    for path in sorted(folder.glob("*.npz")):
        yield from read_torsion_sets(path)
    if any(folder.glob("*.h5")):
        for s in read_folder(folder):
            if s.energies is not None and (found := torsion_set(s.molecule, s.positions, s.energies)) is not None:
                yield found


def write_torsion_sets(path: Path, sets: Sequence[TorsionSet]) -> None:
    """Write a file: all arrays of each kind, concatenated, and their shapes."""
    arrays = {f"{_PREFIX}{f.name}": [getattr(t.features, f.name) for t in sets] for f in fields(TorsionFeatures)}
    arrays |= {name: [getattr(t, name) for t in sets] for name in ("radians", "energies")}
    packed = {"smiles": np.array([t.smiles for t in sets]), "held_out": np.array([t.held_out for t in sets])}
    for name, values in arrays.items():
        kind = np.float16 if name in ("radians", "energies") else np.uint16
        packed[name] = np.concatenate([v.astype(kind).ravel() for v in values])
        packed[f"{name}.shapes"] = np.array([v.shape for v in values])
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        np.savez_compressed(file, **packed)  # type: ignore[arg-type]  # the stubs know no keyword arrays
    partial.replace(path)


def read_torsion_sets(path: Path) -> list[TorsionSet]:
    """Read what ``write_torsion_sets`` wrote."""
    with np.load(path, allow_pickle=False) as packed:
        smiles, held_out = packed["smiles"].tolist(), packed["held_out"].tolist()

        def values(name: str) -> list[np.ndarray]:
            shapes = packed[f"{name}.shapes"]
            parts = np.split(packed[name], shapes.prod(axis=1).cumsum()[:-1])
            return [p.reshape(shape) for p, shape in zip(parts, shapes, strict=True)]

        columns = {f.name: values(f"{_PREFIX}{f.name}") for f in fields(TorsionFeatures)}
        radians, energies = values("radians"), values("energies")
    return [
        TorsionSet(
            smiles=smiles[i],
            features=TorsionFeatures(**{name: column[i].astype(np.int64) for name, column in columns.items()}),
            radians=radians[i].astype(np.float32),
            energies=energies[i].astype(np.float32),
            held_out=held_out[i],
        )
        for i in range(len(smiles))
    ]
