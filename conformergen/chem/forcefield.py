"""MMFF94s energies and minimisation (Halgren 1999, doi 10.1002/(SICI)1096-987X(199905)20:7<720)."""

import numpy as np
from rdkit import Chem
from rdkit.Chem import rdForceFieldHelpers


def minimise_mmff(mol: Chem.Mol, *, max_steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Minimise every conformer of ``mol`` in place.

    Args:
        mol: Molecule of our own making, never a caller's argument.
        max_steps: Iterations at most.

    Returns:
        Whether each conformer converged, and energies in kcal/mol (NaN without MMFF parameters).
    """
    n = mol.GetNumConformers()
    if n == 0 or not rdForceFieldHelpers.MMFFHasAllMoleculeParams(mol):
        return np.zeros(n, dtype=bool), np.full(n, np.nan)
    results = rdForceFieldHelpers.MMFFOptimizeMoleculeConfs(
        mol, numThreads=1, maxIters=max_steps, mmffVariant="MMFF94s"
    )
    return np.array([status == 0 for status, _ in results]), np.array([energy for _, energy in results])


def minimise_uff(mol: Chem.Mol, *, max_steps: int) -> tuple[np.ndarray, np.ndarray]:
    """As ``minimise_mmff``, with UFF (Rappé et al. 1992, doi 10.1021/ja00051a040)."""
    n = mol.GetNumConformers()
    if n == 0 or not rdForceFieldHelpers.UFFHasAllMoleculeParams(mol):
        return np.zeros(n, dtype=bool), np.full(n, np.nan)
    results = rdForceFieldHelpers.UFFOptimizeMoleculeConfs(mol, numThreads=1, maxIters=max_steps)
    return np.array([status == 0 for status, _ in results]), np.array([energy for _, energy in results])


def mmff_energies(mol: Chem.Mol) -> np.ndarray:
    """Energies of the conformers as they are, kcal/mol; NaN without MMFF parameters."""
    properties = rdForceFieldHelpers.MMFFGetMoleculeProperties(mol, mmffVariant="MMFF94s")
    if properties is None:
        return np.full(mol.GetNumConformers(), np.nan)
    fields = (
        rdForceFieldHelpers.MMFFGetMoleculeForceField(mol, properties, confId=c.GetId()) for c in mol.GetConformers()
    )
    return np.array([field.CalcEnergy() for field in fields])
