"""What a reader is, and what it yields."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from rdkit import Chem

from conformergen.chem import mol_from_arrays


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class RawEnsemble:
    """One molecule of a source as it stands there: nothing is filtered or reordered yet.

    Attributes:
        smiles: SMILES of the source; empty when only the 3D structures say what it is.
        name: Title or id.
        conformers: Molecules with explicit hydrogens and one 3D conformer each; may be empty.
        energies: kcal/mol relative, or None.
        weights: Boltzmann weights, or None.
        energy_method: Level of the energies.
        position: Index of the source file or record group, for split files.
        split: Part it belongs to where the source says so, as our shards do.
        error: Why the source could not be read, with no conformers then.
        references: In a file of samples that holds what they are compared with: the reference conformers.
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


def unpack_mols(arrays: dict[str, np.ndarray]) -> list[Chem.Mol | None]:
    """Molecules from the arrays of an ``ReaderChild``; None where RDKit refuses one."""
    mols = []
    atom, bond = 0, 0
    for n_atoms, n_bonds in arrays["sizes"].tolist() if arrays else []:
        atoms, bonds = slice(atom, atom + n_atoms), slice(bond, bond + n_bonds)
        mols.append(
            mol_from_arrays(
                arrays["numbers"][atoms],
                arrays["charges"][atoms],
                arrays["bonds"][bonds],
                arrays["types"][bonds],
                arrays["positions"][atoms],
            )
        )
        atom, bond = atom + n_atoms, bond + n_bonds
    return mols


class Reader(Protocol):
    """Yield every molecule of a source, in an order that depends on the source alone."""

    def __call__(self, source: Path) -> Iterator[RawEnsemble]:
        """Read ``source``."""
        ...
