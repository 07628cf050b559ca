"""Pairing ``perturbed``: the reference with every torsion rotated a little, minimised with the torsions restrained.

This is what the candidates of ``generate`` are to the minima that they lead to, and there are as many pairs as wanted.
"""

from typing import Final

import numpy as np

from conformergen.chem import get_torsions, heavy_atoms, mol_with_conformers, rotatable_torsions, set_torsions, to_mol
from conformergen.chem.embedding import random_seed
from conformergen.datasets.pairing import minimised
from conformergen.datasets.pairing.interface import Starts, superposed
from conformergen.geometry.graph import bonds_kept
from conformergen.geometry.stereo import stereo_ok
from conformergen.records import ConformerSet
from conformergen.torsion import DRAWN_RESTRAINT, RestrainedTorsions, minimise_restrained

#: Standard deviation of the rotations, degrees: the distance of a candidate's torsions from those of the GFN2-xTB
#: minimum that it leads to (``experiments/14-rounds.md``).
_ROTATION: Final = 10.0
#: Largest RMSD of heavy atoms between start and reference, Å.
_MAX_RMSD: Final = 1.0


def pair(conformers: ConformerSet, *, min_starts: int, mmff94s: bool, seed: int) -> Starts | None:
    """Perturb and minimise each reference; arguments and result as ``Pairing``.

    A start that lost its bonds or stereo, or that moved too far, is replaced by that of ``minimised``.
    """
    unperturbed = minimised.pair(conformers, min_starts=min_starts, mmff94s=mmff94s, seed=seed)
    molecule = conformers.molecule
    mol = to_mol(molecule)
    quartets = rotatable_torsions(mol)
    if unperturbed is None or len(quartets) == 0:
        return unperturbed
    rng = np.random.default_rng(random_seed(molecule, seed, "turned"))
    references = conformers.positions.astype(np.float64)
    degrees = np.array([get_torsions(mol, p, quartets) for p in references])
    degrees += rng.normal(0.0, _ROTATION, degrees.shape)
    starts = np.array([set_torsions(mol, p, quartets, row) for p, row in zip(references, degrees, strict=True)])
    torsions = RestrainedTorsions(quartets=quartets, degrees=degrees, restraint=DRAWN_RESTRAINT)
    minima = minimise_restrained(molecule, starts, torsions, max_steps=minimised.MAX_STEPS)
    perturbed = superposed(conformers, mol_with_conformers(molecule, minima.positions))
    heavy = heavy_atoms(mol)
    rmsd = np.sqrt(((perturbed[:, heavy] - conformers.positions[:, heavy]) ** 2).sum(-1).mean(-1))
    good = stereo_ok(perturbed, molecule.graph) & bonds_kept(perturbed, molecule.graph) & (rmsd < _MAX_RMSD)
    return np.where(good[:, None, None], perturbed, unperturbed)
