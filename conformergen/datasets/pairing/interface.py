"""What a pairing is, and the superposition that pairings share."""

from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32
from rdkit import Chem

from conformergen.chem import heavy_atoms
from conformergen.geometry.rmsd import kabsch_rotation
from conformergen.records import ConformerSet

Starts = Float32[np.ndarray, "conf atom 3"]


@runtime_checkable
class Pairing(Protocol):
    """Make one start structure for each reference conformer."""

    def __call__(self, conformers: ConformerSet, *, min_starts: int, mmff94s: bool, seed: int) -> Starts | None:
        """Start structures in Å, in the frame and atom order of the references; None without force-field parameters.

        Raises:
            MoleculeError: ``embed`` or ``stereo`` when no start structure can be made.
        """
        ...


def superposed(conformers: ConformerSet, mol: Chem.Mol) -> Starts:
    """Positions of the conformers of ``mol``, each superposed on the heavy atoms of its reference."""
    heavy = heavy_atoms(mol)
    moved = np.array([c.GetPositions() for c in mol.GetConformers()])
    for reference, positions in zip(conformers.positions.astype(np.float64), moved, strict=True):
        target, mobile = reference[heavy].mean(axis=0), positions[heavy].mean(axis=0)
        rotation = kabsch_rotation(reference[heavy] - target, positions[heavy] - mobile)
        positions[:] = (positions - mobile) @ rotation + target
    return moved.astype(np.float32)
