"""MMFF94s energies and minimisation (Halgren 1999, doi 10.1002/(SICI)1096-987X(199905)20:7<720)."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64
from rdkit import Chem
from rdkit.Chem import rdForceFieldHelpers
from rdkit.ForceField.rdForceField import ForceField

from conformergen.geometry.graph import MAX_HOPS
from conformergen.geometry.quasi_newton import minimise


@dataclass(frozen=True, kw_only=True, slots=True)
class Hold:
    """How a torsion is held.

    Attributes:
        constant: kcal/mol/degree²; the pull on what is farther off than the slack.
        slack: Degrees to either side that cost nothing.
    """

    constant: float = 0.0
    slack: float = 0.0


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class HeldTorsions:
    """Torsions that stay near where they are put, while all else is minimised.

    Attributes:
        quartets: Atoms of each torsion.
        degrees: Where each conformer has them.
        hold: The pull on those that leave.
    """

    quartets: Int64[np.ndarray, "rotor 4"]
    degrees: Float64[np.ndarray, "conf rotor"]
    hold: Hold


def minimise_mmff(mol: Chem.Mol, *, max_steps: int, held: HeldTorsions | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Minimise every conformer of ``mol`` in place.

    Args:
        mol: Molecule of our own making, never a caller's argument.
        max_steps: Iterations at most.
        held: Torsions of the conformers that are pulled back when they leave, or not at all. With them
            ``geometry.quasi_newton`` minimises; without, RDKit does, as ETKDGv3+MMFF94s is known.

    Returns:
        Whether each conformer converged, and energies in kcal/mol, without those of the pull (NaN without MMFF
        parameters).
    """
    n = mol.GetNumConformers()
    if n == 0 or not rdForceFieldHelpers.MMFFHasAllMoleculeParams(mol):
        return np.zeros(n, dtype=bool), np.full(n, np.nan)
    if held is not None:
        return _minimise_held(mol, max_steps, held), mmff_energies(mol)
    results = rdForceFieldHelpers.MMFFOptimizeMoleculeConfs(
        mol, numThreads=1, maxIters=max_steps, mmffVariant="MMFF94s"
    )
    return np.array([status == 0 for status, _ in results]), np.array([energy for _, energy in results])


def _minimise_held(mol: Chem.Mol, max_steps: int, held: HeldTorsions) -> np.ndarray:
    properties = rdForceFieldHelpers.MMFFGetMoleculeProperties(mol, mmffVariant="MMFF94s")
    quartets = held.quartets.tolist()
    hops = np.minimum(Chem.GetDistanceMatrix(mol), MAX_HOPS).astype(np.uint8)
    converged = []
    for conformer, degrees in zip(mol.GetConformers(), held.degrees.tolist(), strict=True):
        field = rdForceFieldHelpers.MMFFGetMoleculeForceField(mol, properties, confId=conformer.GetId())
        field.Initialize()
        for atoms, angle in zip(quartets, degrees, strict=True):
            most, least = angle + held.hold.slack, angle - held.hold.slack
            field.MMFFAddTorsionConstraint(*atoms, False, least, most, held.hold.constant)  # noqa: FBT003
        # Half the gradients of RDKit's own minimiser, which starts from the unit matrix, and no energies.
        positions, done = minimise(_gradient_of(field), conformer.GetPositions(), hops, max_steps=max_steps)
        conformer.SetPositions(positions)
        converged.append(done)
    return np.array(converged)


def _gradient_of(field: ForceField) -> Callable[[list[float]], tuple[float, ...]]:
    def gradient(coordinates: list[float]) -> tuple[float, ...]:
        # RDKit's gradient is that of the last energy's distances. This forgets them, at a 25th of an energy's CPU.
        field.Initialize()
        return field.CalcGrad(coordinates)

    return gradient


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
    if properties is None or mol.GetNumConformers() == 0:
        return np.full(mol.GetNumConformers(), np.nan)
    field = rdForceFieldHelpers.MMFFGetMoleculeForceField(mol, properties)
    field.Initialize()
    return np.array([field.CalcEnergy(c.GetPositions().ravel().tolist()) for c in mol.GetConformers()])
