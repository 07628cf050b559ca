"""Rounds of the network, and the held force field between two of them."""

from dataclasses import replace
from typing import Final

import numpy as np

from conformergen.chem import settle
from conformergen.geometry.graph import bonds_kept
from conformergen.geometry.stereo import stereo_ok
from conformergen.records import ConformerSet, Molecule

#: Rounds by default. A network that is fitted to force-field minima turns their torsions towards GFN2-xTB's; minimised
#: with these held, they are what it is fitted to, nearer to the goal (docs/experiments.md, section 14).
ROUNDS: Final = 3


def is_valid(positions: np.ndarray, molecule: Molecule) -> np.ndarray:
    """Finite, with the bonds of the graph and the requested stereo; one answer per conformer."""
    finite = np.isfinite(positions).all(axis=(1, 2))
    safe = np.where(finite[:, None, None], positions, 0.0)
    return finite & stereo_ok(safe, molecule.graph) & bonds_kept(safe, molecule.graph)


def settled(samples: ConformerSet) -> ConformerSet:
    """Seeds of the next round: what MMFF94s makes of samples with their torsions held, with its energies, kcal/mol.

    What loses its bonds or stereo stays a sample, with the energy of the seed that it comes from.
    """
    assert samples.energies is not None
    positions, energies = settle(samples.molecule, samples.positions.astype(np.float64))
    good = is_valid(positions, samples.molecule)
    return replace(
        samples,
        positions=np.where(good[:, None, None], positions, samples.positions).astype(np.float32),
        energies=np.where(good, energies, samples.energies),
    )
