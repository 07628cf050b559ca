"""MMFF94s minimisation under flat-bottomed torsion restraints.

MMFF94s moves the torsions of GFN2-xTB minima (0.6 Å of RMSD on average) and merges many of these minima. With their
torsions restrained, force-field minima stay near them, while bonds and angles relax.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Float64, Int64
from rdkit import Chem
from rdkit.Chem import rdForceFieldHelpers
from rdkit.ForceField.rdForceField import ForceField

from conformergen.chem import mmff_energies, mol_with_conformers
from conformergen.errors import InputError
from conformergen.geometry.graph import MAX_HOPS
from conformergen.geometry.quasi_newton import minimise
from conformergen.records import Minima, Molecule


@dataclass(frozen=True, kw_only=True, slots=True)
class TorsionRestraint:
    """A flat-bottomed restraint: no force inside the half-width, a harmonic one beyond it.

    Attributes:
        force_constant: kcal/mol/degree².
        half_width: Deviation in degrees, to either side, that costs nothing.
    """

    force_constant: float = 0.0
    half_width: float = 0.0

    def __post_init__(self) -> None:
        if min(self.force_constant, self.half_width) < 0:
            raise InputError("torsion restraint: force constant and half-width must not be negative")


#: No restraint: minima of MMFF94s itself.
FREE: Final = TorsionRestraint()
#: Restraint of torsions that were drawn from bins of 10 degrees: they stay about where they were drawn.
DRAWN_RESTRAINT: Final = TorsionRestraint(force_constant=2e-3, half_width=8.0)
#: Restraint of a network's sample between two rounds: its torsions stay, its bonds and angles relax.
SAMPLE_RESTRAINT: Final = TorsionRestraint(force_constant=5e-3)
#: Force-field iterations between two rounds: enough for bonds and angles.
SAMPLE_STEPS: Final = 12


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class RestrainedTorsions:
    """Torsions that are restrained to given values while everything else is minimised.

    Attributes:
        quartets: Four atoms of each torsion.
        degrees: Centre of the restraint in each conformer.
        restraint: Its shape.
    """

    quartets: Int64[np.ndarray, "torsion 4"]
    degrees: Float64[np.ndarray, "conf torsion"]
    restraint: TorsionRestraint


def minimise_restrained(
    molecule: Molecule,
    positions: Float64[np.ndarray, "conf atom 3"],
    torsions: RestrainedTorsions,
    *,
    max_steps: int,
) -> Minima:
    """Minimise each conformer with MMFF94s under torsion restraints.

    Args:
        molecule: Species; where MMFF94s has no parameters for it, positions are returned as they are.
        positions: Starts, in Å.
        torsions: What is restrained.
        max_steps: Largest number of iterations of ``geometry.quasi_newton``.

    Returns:
        Positions in Å, and MMFF94s energies in kcal/mol without the energy of the restraints (NaN without parameters).
    """
    mol = mol_with_conformers(molecule, positions)
    if mol.GetNumConformers() and rdForceFieldHelpers.MMFFHasAllMoleculeParams(mol):
        _minimise_conformers(mol, torsions, max_steps)
    minima = np.array([c.GetPositions() for c in mol.GetConformers()]).reshape(positions.shape)
    return Minima(positions=minima, energies=mmff_energies(mol))


def _minimise_conformers(mol: Chem.Mol, torsions: RestrainedTorsions, max_steps: int) -> None:
    properties = rdForceFieldHelpers.MMFFGetMoleculeProperties(mol, mmffVariant="MMFF94s")
    hops = np.minimum(Chem.GetDistanceMatrix(mol), MAX_HOPS).astype(np.uint8)
    quartets, shape = torsions.quartets.tolist(), torsions.restraint
    for conformer, degrees in zip(mol.GetConformers(), torsions.degrees.tolist(), strict=True):
        field = rdForceFieldHelpers.MMFFGetMoleculeForceField(mol, properties, confId=conformer.GetId())
        field.Initialize()
        for atoms, angle in zip(quartets, degrees, strict=True):
            lowest, highest = angle - shape.half_width, angle + shape.half_width
            field.MMFFAddTorsionConstraint(*atoms, False, lowest, highest, shape.force_constant)  # noqa: FBT003
        # Compared with RDKit's own minimiser, this one needs half the gradients and no energies.
        minimum, _ = minimise(_gradient_of(field), conformer.GetPositions(), hops, max_steps=max_steps)
        conformer.SetPositions(minimum)


def _gradient_of(field: ForceField) -> Callable[[list[float]], tuple[float, ...]]:
    def gradient(coordinates: list[float]) -> tuple[float, ...]:
        # RDKit computes gradients from the distances of the last energy; Initialize makes it forget these.
        field.Initialize()
        return field.CalcGrad(coordinates)

    return gradient
