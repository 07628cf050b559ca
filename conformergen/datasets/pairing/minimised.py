"""Pairing ``minimised``: the MMFF94s minimum that the reference falls into."""

from typing import Final

import numpy as np

from conformergen.chem import minimise_mmff, mol_with_conformers
from conformergen.datasets.pairing.interface import Starts, superposed
from conformergen.records import ConformerSet

#: Largest number of force-field iterations.
MAX_STEPS: Final = 500


def pair(conformers: ConformerSet, *, min_starts: int, mmff94s: bool, seed: int) -> Starts | None:
    """Minimise each reference; arguments and result as ``Pairing``."""
    del min_starts, mmff94s, seed
    mol = mol_with_conformers(conformers.molecule, conformers.positions)
    _, energies = minimise_mmff(mol, max_steps=MAX_STEPS)
    if not np.isfinite(energies).all():
        return None
    return superposed(conformers, mol)
