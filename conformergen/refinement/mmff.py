"""MMFF94s minimisation through RDKit."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from conformergen.chem import minimise_mmff, mol_with_conformers
from conformergen.records import ConformerSet, Refined

#: Minimises every conformer of a molecule in place, ``max_steps`` at most: whether each converged, and kcal/mol.
Minimise = Callable[..., tuple[np.ndarray, np.ndarray]]


def refine_in_place(conformers: ConformerSet, minimise: Minimise, *, method: str, max_steps: int) -> Refined:
    """Refine by one of RDKit's force fields; without parameters positions stay and there is no energy."""
    mol = mol_with_conformers(conformers.molecule, conformers.positions)
    converged, energies = minimise(mol, max_steps=max_steps)
    positions = np.array([c.GetPositions() for c in mol.GetConformers()], dtype=np.float32)
    usable = len(energies) > 0 and bool(np.isfinite(energies).all())
    refined = replace(
        conformers,
        positions=positions.reshape(conformers.positions.shape),
        energies=energies if usable else None,
        energy_method=method if usable else "",
    )
    return Refined(conformers=refined, converged=converged)


def refine(conformers: ConformerSet, *, max_steps: int) -> Refined:
    """Minimise each conformer with MMFF94s."""
    return refine_in_place(conformers, minimise_mmff, method="mmff94s", max_steps=max_steps)
