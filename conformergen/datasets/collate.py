"""Molecules to padded tensors."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from conformergen.geometry.graph import hop_counts, rotatable_bonds
from conformergen.records import ATOM_FEATURES, Molecule, MolGraph
from conformergen.records.batch import GraphBatch


class GraphTables:
    """Dense tables of atom pairs of one graph, computed once and used in every batch."""

    __slots__ = (
        "bond_types",
        "centre_neighbours",
        "graph",
        "handedness",
        "hops",
        "moving_atoms",
        "relations",
        "rotatable_bonds",
    )

    def __init__(self, graph: MolGraph) -> None:
        n = graph.n_atoms
        self.graph = graph
        self.bond_types = np.zeros((n, n), dtype=np.uint8)
        first, second = graph.bonds[:, 0], graph.bonds[:, 1]
        self.bond_types[first, second] = self.bond_types[second, first] = graph.bond_types
        self.hops = hop_counts(graph)
        self.relations = _relations(graph, self.bond_types)
        self.handedness = np.zeros(n, dtype=np.float32)
        self.handedness[graph.centres[:, 0]] = graph.handedness
        self.centre_neighbours = np.repeat(np.arange(n)[:, None], 4, axis=1)
        self.centre_neighbours[graph.centres[:, 0]] = graph.centres[:, 1:]
        self.rotatable_bonds, self.moving_atoms = rotatable_bonds(graph)


def _relations(graph: MolGraph, bond_types: np.ndarray) -> np.ndarray:
    """1 for substituents on one side of a stereo double bond, 2 for substituents on opposite sides."""
    relations = np.zeros(bond_types.shape, dtype=np.uint8)
    for (a, b, c, d), sign in zip(graph.double_bonds.tolist(), graph.cis.tolist(), strict=True):
        for left in np.flatnonzero(bond_types[b]).tolist():
            for right in np.flatnonzero(bond_types[c]).tolist():
                if left == c or right == b:
                    continue
                same_side = sign * (1 if left == a else -1) * (1 if right == d else -1)
                relations[left, right] = relations[right, left] = 1 if same_side > 0 else 2
    return relations


def collate_graphs(tables: Sequence[GraphTables], *, pad_to: int | None = None) -> GraphBatch:
    """Padded batch of graphs."""
    n = max(max(t.graph.n_atoms for t in tables), pad_to or 0)
    size = len(tables)
    numbers = np.zeros((size, n), dtype=np.int64)
    features = np.zeros((size, n, len(ATOM_FEATURES)), dtype=np.int64)
    mask = np.zeros((size, n), dtype=bool)
    pairs = np.zeros((3, size, n, n), dtype=np.int64)
    handedness = np.zeros((size, n), dtype=np.float32)
    neighbours = np.tile(np.arange(n)[None, :, None], (size, 1, 4))
    n_rotatable_bonds = max(len(t.rotatable_bonds) for t in tables)
    rotatable_bonds = np.zeros((size, n_rotatable_bonds, 2), dtype=np.int64)
    moving_atoms = np.zeros((size, n_rotatable_bonds, n), dtype=bool)
    for i, t in enumerate(tables):
        m = t.graph.n_atoms
        numbers[i, :m] = t.graph.atomic_numbers
        features[i, :m] = t.graph.atom_features
        mask[i, :m] = True
        pairs[0, i, :m, :m], pairs[1, i, :m, :m], pairs[2, i, :m, :m] = t.bond_types, t.hops, t.relations
        handedness[i, :m] = t.handedness
        neighbours[i, :m] = t.centre_neighbours
        rotatable_bonds[i, : len(t.rotatable_bonds)] = t.rotatable_bonds
        moving_atoms[i, : len(t.rotatable_bonds), :m] = t.moving_atoms
    return GraphBatch(
        atomic_numbers=torch.from_numpy(numbers),
        atom_features=torch.from_numpy(features),
        mask=torch.from_numpy(mask),
        bond_types=torch.from_numpy(pairs[0]),
        hops=torch.from_numpy(pairs[1]),
        relations=torch.from_numpy(pairs[2]),
        handedness=torch.from_numpy(handedness),
        centre_neighbours=torch.from_numpy(neighbours),
        rotatable_bonds=torch.from_numpy(rotatable_bonds),
        moving_atoms=torch.from_numpy(moving_atoms),
    )


def pad_positions(positions: Sequence[Float32[np.ndarray, "_ 3"]], n: int) -> Float32[Tensor, "batch atom 3"]:
    """Stack positions of graphs of several sizes, zero on padding."""
    out = np.zeros((len(positions), n, 3), dtype=np.float32)
    for i, p in enumerate(positions):
        out[i, : len(p)] = p
    return torch.from_numpy(out)


@lru_cache(maxsize=1024)
def molecule_tables(molecule: Molecule) -> GraphTables:
    """Tables of a molecule, remembered for each record."""
    return GraphTables(molecule.graph)
