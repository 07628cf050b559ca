"""The record of one molecule on its way through the rounds."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, UInt8

from conformergen.chem import get_torsions, rotatable_torsions, to_mol
from conformergen.geometry.graph import bonds_kept
from conformergen.geometry.stereo import stereo_ok
from conformergen.records import Molecule, MolGraph
from conformergen.torsion import RestrainedTorsions, minimise_restrained
from conformergen.torsion.restraints import SAMPLE_RESTRAINT, SAMPLE_STEPS


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Samples:
    """Samples of one molecule, or the starts of a round.

    Attributes:
        molecule: Species.
        positions: Å.
        mmff_energies: MMFF94s energies, in kcal/mol, of the starts from which the samples were drawn; None where these
            are not force-field minima.
        fallback: Value of ``Fallback`` of each sample.
        n_final: Number of samples that may enter the final round; the ranker chooses them.
    """

    molecule: Molecule
    positions: Float32[np.ndarray, "conf atom 3"]
    mmff_energies: Float64[np.ndarray, " conf"] | None
    fallback: UInt8[np.ndarray, " conf"]
    n_final: int

    def __len__(self) -> int:
        return len(self.positions)

    def select(self, indices: "np.ndarray") -> "Samples":
        """The samples of ``indices``, in that order."""
        return replace(
            self,
            positions=self.positions[indices],
            mmff_energies=None if self.mmff_energies is None else self.mmff_energies[indices],
            fallback=self.fallback[indices],
        )


def is_valid(positions: Float[np.ndarray, "conf atom 3"], graph: MolGraph) -> Bool[np.ndarray, " conf"]:
    """Whether each conformer is finite and has the bonds of the graph and the requested stereo."""
    finite = np.isfinite(positions).all(axis=(1, 2))
    safe = np.where(finite[:, None, None], positions, 0.0)
    return finite & stereo_ok(safe, graph) & bonds_kept(safe, graph)


def minimise_samples(samples: Samples) -> Samples:
    """Starts of the next round: the samples minimised with MMFF94s while their torsions are restrained.

    A sample that loses its bonds or stereo is kept as it is, with the energy of the start that it was drawn from.
    """
    assert samples.mmff_energies is not None
    molecule, positions = samples.molecule, samples.positions.astype(np.float64)
    mol = to_mol(molecule)
    quartets = rotatable_torsions(mol)
    degrees = np.array([get_torsions(mol, p, quartets) for p in positions]).reshape(len(positions), len(quartets))
    torsions = RestrainedTorsions(quartets=quartets, degrees=degrees, restraint=SAMPLE_RESTRAINT)
    minima = minimise_restrained(molecule, positions, torsions, max_steps=SAMPLE_STEPS)
    good = is_valid(minima.positions, molecule.graph)
    return replace(
        samples,
        positions=np.where(good[:, None, None], minima.positions, samples.positions).astype(np.float32),
        mmff_energies=np.where(good, minima.energies, samples.mmff_energies),
    )
