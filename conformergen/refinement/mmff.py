"""MMFF94s minimisation through RDKit."""

from dataclasses import replace

import numpy as np

from conformergen.chem import minimise_mmff, mol_with_conformers
from conformergen.records import ConformerSet, Refined


def refine(conformers: ConformerSet, *, max_steps: int) -> Refined:
    """Minimise each conformer; without MMFF parameters positions stay and there is no energy."""
    mol = mol_with_conformers(conformers.molecule, conformers.positions)
    converged, energies = minimise_mmff(mol, max_steps=max_steps)
    positions = np.array([c.GetPositions() for c in mol.GetConformers()], dtype=np.float32)
    usable = len(energies) > 0 and bool(np.isfinite(energies).all())
    refined = replace(
        conformers,
        positions=positions.reshape(conformers.positions.shape),
        energies=energies if usable else None,
        energy_method="mmff94s" if usable else "",
    )
    return Refined(conformers=refined, converged=converged)
