"""The nouns that cross rooms: frozen records of NumPy arrays.

They hold no torch tensors, so worker processes that only run RDKit or xTB never import torch (1.2 CPU seconds and
500 MB each). The tensor record of a padded batch is ``records.batch``.
"""

import hashlib
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Final

import numpy as np
from jaxtyping import Float32, Float64, Int8, Int32, UInt8

from conformergen.errors import MoleculeError

#: Columns of ``MolGraph.atom_features`` (integer codes).
ATOM_FEATURES: Final = (
    "charge + 8",
    "degree",
    "hybridisation",
    "aromatic",
    "smallest ring",
    "n_hydrogens",
    "stereo",
)


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class MolGraph:
    """Bond graph with explicit hydrogens and the requested stereochemistry.

    Attributes:
        atomic_numbers: Element of each atom.
        atom_features: Integer codes, columns as ``ATOM_FEATURES``.
        bonds: Each bond once, low index first.
        bond_types: 1, 2, 3, or 4 for aromatic.
        centres: Stereocentre and its four neighbours in canonical order; a centre of three neighbours takes the place
            of its own fourth neighbour (lone pair).
        handedness: Sign of det(p1 - p4, p2 - p4, p3 - p4) in the requested isomer.
        double_bonds: Atoms a, b, c, d with the double bond between b and c.
        cis: +1 where a and d are on one side of the double bond, -1 where they are not.
    """

    atomic_numbers: UInt8[np.ndarray, " atom"]
    atom_features: UInt8[np.ndarray, "atom feature"]
    bonds: Int32[np.ndarray, "bond 2"]
    bond_types: UInt8[np.ndarray, " bond"]
    centres: Int32[np.ndarray, "centre 5"]
    handedness: Int8[np.ndarray, " centre"]
    double_bonds: Int32[np.ndarray, "double 4"]
    cis: Int8[np.ndarray, " double"]

    @property
    def n_atoms(self) -> int:
        """Number of atoms, hydrogens included."""
        return len(self.atomic_numbers)

    @property
    def achiral(self) -> bool:
        """Whether there is no stereocentre, so that mirror images are conformers of one species with one energy."""
        return len(self.centres) == 0

    def neighbours(self) -> list[list[int]]:
        """Bonded atoms of each atom, in the order of the bonds."""
        found: list[list[int]] = [[] for _ in range(self.n_atoms)]
        for i, j in self.bonds.tolist():
            found[i].append(j)
            found[j].append(i)
        return found


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Molecule:
    """One species: a canonical isomeric SMILES, whose parse order defines the atom order, and its graph.

    Attributes:
        smiles: Canonical isomeric SMILES. Atom i is the i-th atom of its parse; added hydrogens follow.
        name: Title given by the user.
        graph: Arrays in that order.
        source_smiles: SMILES as the user wrote it.
        stereo: ``requested`` when the input fixed every stereo element, else ``sampled``.
    """

    smiles: str
    name: str
    graph: MolGraph
    source_smiles: str = ""
    stereo: str = "requested"

    @property
    def key(self) -> bytes:
        """First half of the SHA-256 of the SMILES: names the molecule in shards and in noise streams."""
        return hashlib.sha256(self.smiles.encode()).digest()[:16]


class Fallback(IntEnum):
    """How far a generated conformer departs from the method that was asked for; the larger value is the worse one."""

    #: The method as asked for.
    REGULAR = 0
    #: The network's first sample broke a bond or a stereo element; a later one did not.
    REDRAWN = 1
    #: Every sample of the network did, so the verified start is returned instead.
    START = 2
    #: ETKDGv3 gave no start from its own initial coordinates, but from random ones.
    RANDOM_COORDINATES = 3
    #: Only distance geometry without ETKDG's knowledge terms gave a start.
    DISTANCE_GEOMETRY = 4

    @property
    def label(self) -> str:
        """Name in files, such as ``random-coordinates``."""
        return self.name.lower().replace("_", "-")


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Minima:
    """Energy minima of one molecule.

    Attributes:
        positions: Å.
        energies: kcal/mol; NaN without force-field parameters.
    """

    positions: Float64[np.ndarray, "conf atom 3"]
    energies: Float64[np.ndarray, " conf"]

    def __len__(self) -> int:
        return len(self.energies)

    def select(self, indices: "np.ndarray | list[int]") -> "Minima":
        """The minima of some indices, in that order, or those where a mask is true."""
        return Minima(positions=self.positions[indices], energies=self.energies[indices])

    def join(self, other: "Minima") -> "Minima":
        """These minima followed by others."""
        return Minima(
            positions=np.concatenate([self.positions, other.positions]),
            energies=np.concatenate([self.energies, other.energies]),
        )


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class ConformerSet:
    """Conformers of one molecule.

    Attributes:
        positions: Å.
        energies: kcal/mol above the lowest, or None without energies.
        weights: Boltzmann weights that sum to 1, or None.
        starts: Start structure paired with each conformer, in its frame and atom order, in Å, or None.
        source_idx: Index of each conformer in the source ensemble, or None.
        energy_method: Method of ``energies``, such as ``mmff94s``.
        fallback: Value of ``Fallback`` for each conformer, or None.
    """

    molecule: Molecule
    positions: Float32[np.ndarray, "conf atom 3"]
    energies: Float64[np.ndarray, " conf"] | None = None
    weights: Float64[np.ndarray, " conf"] | None = None
    starts: Float32[np.ndarray, "conf atom 3"] | None = None
    source_idx: Int32[np.ndarray, " conf"] | None = None
    energy_method: str = ""
    fallback: UInt8[np.ndarray, " conf"] | None = None

    def __len__(self) -> int:
        return len(self.positions)

    def select(self, indices: "np.ndarray") -> "ConformerSet":
        """The conformers of ``indices``, in that order; weights are not renormalised."""

        def pick(values: "np.ndarray | None") -> "np.ndarray | None":
            return None if values is None else values[indices]

        return replace(
            self,
            positions=self.positions[indices],
            energies=pick(self.energies),
            weights=pick(self.weights),
            starts=pick(self.starts),
            source_idx=pick(self.source_idx),
            fallback=pick(self.fallback),
        )


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class AlignedEnsembles:
    """References and samples of one molecule as positions in one atom order.

    Attributes:
        molecule: The species, whose atom order is used.
        references: Å.
        samples: Å.
        n_dropped_references: References left out because their bond graph is not that of the SMILES.
        n_dropped_samples: Samples left out for the same reason.
    """

    molecule: Molecule
    references: Float32[np.ndarray, "ref atom 3"]
    samples: Float32[np.ndarray, "gen atom 3"]
    n_dropped_references: int = 0
    n_dropped_samples: int = 0


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Refined:
    """Result of a refiner: as many conformers as came in, in the same order.

    Attributes:
        conformers: Positions after refinement; absolute ``energies`` in kcal/mol where the method has one.
        converged: Whether each minimisation met its criterion.
    """

    conformers: ConformerSet
    converged: "np.ndarray"


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """One input that gave no result.

    Attributes:
        index: Position in the input, from 0.
        input: Text as given.
        name: Title, or an empty string.
        reason: One of ``errors.REASONS``.
        message: One line for a person.
    """

    index: int
    input: str
    name: str
    reason: str
    message: str

    @classmethod
    def of(cls, error: MoleculeError, *, index: int, text: str, name: str) -> "Failure":
        """Record of an error on one input."""
        return cls(index=index, input=text, name=name, reason=error.reason, message=str(error))
