"""The nouns that cross rooms: frozen records of NumPy arrays.

They hold no torch tensors, so that worker processes that only run RDKit or xTB never import torch
(1.2 CPU seconds and 500 MB each). The tensor record of a padded batch is ``records.batch``.
"""

import hashlib
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from jaxtyping import Float32, Float64, Int8, Int32, UInt8

from conformergen.errors import MoleculeError

#: Columns of ``MolGraph.atom_features`` (integer codes).
ATOM_FEATURES = (
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
        centres: Stereocentre and four neighbours in canonical order; a centre of three neighbours
            stands in for its own fourth (lone pair).
        handedness: Sign of det(p1 - p4, p2 - p4, p3 - p4) of the requested isomer.
        double_bonds: a, b, c, d with the double bond between b and c.
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
        """Whether there is no stereocentre: a conformer and its mirror image are of one species and energy."""
        return len(self.centres) == 0


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Molecule:
    """One species: a canonical isomeric SMILES, whose parse order defines the atom order, and its graph.

    Attributes:
        smiles: Canonical isomeric SMILES. Atom i is the i-th atom of its parse, then added hydrogens.
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


#: Fallback ladder of a generated conformer: the method as asked; the network's draw repeated; the verified seed instead
#: of a draw; a seed embedded from random coordinates; a seed embedded without ETKDG's knowledge terms.
RUNGS: Final = ("regular", "redrawn", "seed", "random-coordinates", "distance-geometry")


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class ConformerSet:
    """Conformers of one molecule.

    Attributes:
        positions: Å.
        energies: kcal/mol above the lowest, or None without an energy.
        weights: Boltzmann weights that sum to 1, or None.
        seeds: Seed conformer paired with each conformer, in its frame and atom labels, Å, or None.
        source_idx: Index of each conformer in the source ensemble, or None.
        energy_method: Name of the level of ``energies``.
        rungs: How far down the fallback ladder each conformer comes from, an index into ``RUNGS``, or None.
    """

    molecule: Molecule
    positions: Float32[np.ndarray, "conf atom 3"]
    energies: Float64[np.ndarray, " conf"] | None = None
    weights: Float64[np.ndarray, " conf"] | None = None
    seeds: Float32[np.ndarray, "conf atom 3"] | None = None
    source_idx: Int32[np.ndarray, " conf"] | None = None
    energy_method: str = ""
    rungs: UInt8[np.ndarray, " conf"] | None = None

    def __len__(self) -> int:
        return len(self.positions)

    def select(self, indices: "np.ndarray") -> "ConformerSet":
        """Return the conformers of ``indices``, in that order; weights are not renormalised."""

        def pick(values: "np.ndarray | None") -> "np.ndarray | None":
            return None if values is None else values[indices]

        return replace(
            self,
            positions=self.positions[indices],
            energies=pick(self.energies),
            weights=pick(self.weights),
            seeds=pick(self.seeds),
            source_idx=pick(self.source_idx),
            rungs=pick(self.rungs),
        )


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
