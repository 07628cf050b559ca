"""Force-field energies and minimisation by RDKit: MMFF94s and UFF.

MMFF94s: Halgren 1999, doi 10.1002/(SICI)1096-987X(199905)20:7<720. UFF: Rappé et al. 1992, doi 10.1021/ja00051a040.
"""

import numpy as np
from rdkit import Chem
from rdkit.Chem import rdForceFieldHelpers


def minimise_mmff(mol: Chem.Mol, *, max_steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Minimise every conformer of ``mol`` in place with MMFF94s and RDKit's own minimiser.

    Args:
        mol: A molecule that the caller owns; its conformers are changed.
        max_steps: Largest number of iterations.

    Returns:
        Whether each conformer converged, and energies in kcal/mol (NaN without MMFF94s parameters).
    """
    n = mol.GetNumConformers()
    if n == 0 or not rdForceFieldHelpers.MMFFHasAllMoleculeParams(mol):
        return np.zeros(n, dtype=bool), np.full(n, np.nan)
    results = rdForceFieldHelpers.MMFFOptimizeMoleculeConfs(
        mol, numThreads=1, maxIters=max_steps, mmffVariant="MMFF94s"
    )
    return np.array([status == 0 for status, _ in results]), np.array([energy for _, energy in results])


def minimise_uff(mol: Chem.Mol, *, max_steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Minimise every conformer of ``mol`` in place with UFF; arguments and results as ``minimise_mmff``."""
    n = mol.GetNumConformers()
    if n == 0 or not rdForceFieldHelpers.UFFHasAllMoleculeParams(mol):
        return np.zeros(n, dtype=bool), np.full(n, np.nan)
    results = rdForceFieldHelpers.UFFOptimizeMoleculeConfs(mol, numThreads=1, maxIters=max_steps)
    return np.array([status == 0 for status, _ in results]), np.array([energy for _, energy in results])


def mmff_energies(mol: Chem.Mol) -> np.ndarray:
    """MMFF94s energies of the conformers as they are, in kcal/mol; NaN without parameters."""
    properties = rdForceFieldHelpers.MMFFGetMoleculeProperties(mol, mmffVariant="MMFF94s")
    if properties is None or mol.GetNumConformers() == 0:
        return np.full(mol.GetNumConformers(), np.nan)
    field = rdForceFieldHelpers.MMFFGetMoleculeForceField(mol, properties)
    field.Initialize()
    return np.array([field.CalcEnergy(c.GetPositions().ravel().tolist()) for c in mol.GetConformers()])
