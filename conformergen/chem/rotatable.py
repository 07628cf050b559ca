"""Rotatable torsions of a molecule: which they are, how they are measured, and how they are set.

This is the only definition of a rotatable torsion for conformer search. (RDKit's strict count of rotatable bonds, which
reports use to describe flexibility, is ``chem.molecule.n_rotatable_bonds``.)
"""

from math import isnan, lcm
from typing import Final

import numpy as np
from jaxtyping import Float64, Int64
from rdkit import Chem
from rdkit.Chem import rdMolTransforms

#: Single bonds outside rings whose ends have further neighbours and no adjacent triple bond.
_ROTATABLE_BOND: Final = Chem.MolFromSmarts("[!$(*#*)&!D1]-&!@[!$(*#*)&!D1]")


def rotatable_torsions(mol: Chem.Mol) -> Int64[np.ndarray, "torsion 4"]:
    """Four atoms for every rotatable bond; bonds to methyl groups are left out.

    Explicit hydrogens count as neighbours, so the hydroxyl group of an alcohol has a torsion. Of the neighbours at each
    end the torsion uses the heaviest, then the one with most bonds, then the first.
    """
    quartets = []
    for b, c in mol.GetSubstructMatches(_ROTATABLE_BOND):
        if not any(_is_methyl(mol.GetAtomWithIdx(i)) for i in (b, c)):
            quartets.append((_torsion_end(mol, b, c), b, c, _torsion_end(mol, c, b)))
    return np.array(quartets, dtype=np.int64).reshape(-1, 4)


def _torsion_end(mol: Chem.Mol, atom: int, across: int) -> int:
    """Neighbour of ``atom``, other than ``across``, from which the torsion is measured."""
    outer = [n for n in mol.GetAtomWithIdx(atom).GetNeighbors() if n.GetIdx() != across]
    return int(max(outer, key=lambda n: (n.GetAtomicNum(), n.GetDegree(), -n.GetIdx())).GetIdx())


def _is_methyl(atom: Chem.Atom) -> bool:
    return atom.GetAtomicNum() == 6 and sum(n.GetAtomicNum() == 1 for n in atom.GetNeighbors()) == 3


def get_torsions(
    mol: Chem.Mol, positions: Float64[np.ndarray, "atom 3"], quartets: Int64[np.ndarray, "torsion 4"]
) -> Float64[np.ndarray, " torsion"]:
    """Dihedral angles of ``positions``, in degrees; the conformers of ``mol`` are not used."""
    conformer = Chem.Conformer(mol.GetNumAtoms())
    conformer.SetPositions(positions)
    return np.array([rdMolTransforms.GetDihedralDeg(conformer, *quartet) for quartet in quartets.tolist()])


def set_torsions(
    mol: Chem.Mol,
    positions: Float64[np.ndarray, "atom 3"],
    quartets: Int64[np.ndarray, "torsion 4"],
    degrees: Float64[np.ndarray, " torsion"],
) -> Float64[np.ndarray, "atom 3"]:
    """Rotate bonds until the dihedral angles have the given values; NaN leaves a bond as it is."""
    rotated = Chem.Mol(mol, True)  # noqa: FBT003  RDKit takes no keyword: without conformers
    rotated.RemoveAllConformers()
    rotated.AddConformer(Chem.Conformer(mol.GetNumAtoms()))
    conformer = rotated.GetConformer()
    conformer.SetPositions(positions)
    for (i, j, k, m), angle in zip(quartets.tolist(), degrees.tolist(), strict=True):
        if not isnan(angle):
            rdMolTransforms.SetDihedralDeg(conformer, i, j, k, m, angle)
    return conformer.GetPositions()


def torsion_periods(mol: Chem.Mol, quartets: Int64[np.ndarray, "torsion 4"]) -> Float64[np.ndarray, " torsion"]:
    """Rotation in degrees after which each bond looks the same.

    The period is below 360 degrees where all substituents at one end are equivalent, as in a tert-butyl group (120) or
    a phenyl ring (180).
    """
    ranks = list(Chem.CanonicalRankAtoms(mol, breakTies=False))

    def fold(centre: int, across: int) -> int:
        atom = mol.GetAtomWithIdx(centre)
        outer = [ranks[a.GetIdx()] for a in atom.GetNeighbors() if a.GetIdx() != across]
        planar = atom.GetHybridization() == Chem.HybridizationType.SP2
        return len(outer) if len(set(outer)) == 1 and (len(outer) == 3 or (len(outer) == 2 and planar)) else 1

    return np.array([360.0 / lcm(fold(b, c), fold(c, b)) for _, b, c, _ in quartets.tolist()])
