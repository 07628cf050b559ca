"""What the torsion model reads of a molecule: integer codes of atoms, atom pairs and torsions.

Codes that depend on coordinates are signs of handedness only. The sign of a torsion angle has a meaning beside a
stereocentre and beside another torsion, so every torsion carries the side of the bond on which its neighbours lie.
"""

from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
from jaxtyping import Float64, Int64

from conformergen.geometry.graph import hop_counts
from conformergen.records import MolGraph

#: Elements with an embedding of their own; all others share one.
ELEMENTS: Final = (1, 5, 6, 7, 8, 9, 14, 15, 16, 17, 35, 53)
#: Number of codes of each of ``records.ATOM_FEATURES``; larger values share the last code.
FEATURE_SIZES: Final = (17, 8, 9, 2, 12, 6, 4)
#: Bonds between two atoms from which on all pairs share a code.
_FAR: Final = 13
#: Codes of an atom pair: the number of bonds between them, or the type of their bond.
PAIR_CODES: Final = _FAR + 5
#: Codes of each part of the relation of two torsions: bonds apart, which ends they share, two signs of handedness.
RELATION_SIZES: Final = (_FAR + 3, 5, 3, 3)
#: Volume spanned by three unit vectors below which they are regarded as planar, without unit.
_PLANAR: Final = 0.3

#: A NumPy array in worker processes, a torch tensor in training.
Array: TypeAlias = Any


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class TorsionFeatures:
    """Integer codes of molecules and of those conformers whose torsions are to be drawn.

    Attributes:
        elements: Element code of each atom: (molecule, atom).
        features: Atom features, numbered up to ``FEATURE_SIZES``: (molecule, atom, feature).
        pairs: Number of bonds between two atoms, or their bond type: (molecule, atom, atom).
        quartets: Four atoms of each torsion: (molecule, torsion, 4).
        sides: Handedness at both ends of each torsion, 0 to 2: (conformer, torsion, 2).
        relations: Relation of two torsions, numbered through ``RELATION_SIZES``: (conformer, torsion, torsion).
    """

    elements: Array
    features: Array
    pairs: Array
    quartets: Array
    sides: Array
    relations: Array


def torsion_features(
    graph: MolGraph, quartets: Int64[np.ndarray, "torsion 4"], positions: Float64[np.ndarray, "conf atom 3"]
) -> TorsionFeatures:
    """Features of some conformers of one molecule.

    Args:
        graph: Bond graph.
        quartets: Torsions, as ``chem.rotatable_torsions`` gives them.
        positions: Coordinates in Å.
    """
    neighbours = graph.neighbours()
    hops = np.minimum(hop_counts(graph).astype(np.int64), _FAR)
    pairs = hops.copy()
    i, j = graph.bonds.T
    pairs[i, j] = pairs[j, i] = _FAR + graph.bond_types
    codes = {element: code for code, element in enumerate(ELEMENTS)}
    rows = quartets.tolist()
    n = len(rows)
    sides = np.ones((len(positions), n, 2), dtype=np.int64)
    for torsion, (first, b, c, last) in enumerate(rows):
        for end, (centre, across, own) in enumerate(((b, c, first), (c, b, last))):
            third = [k for k in neighbours[centre] if k not in (across, own)]
            if third:
                other = max(third, key=lambda k: (graph.atomic_numbers[k], len(neighbours[k])))
                sides[:, torsion, end] += _handedness(positions, centre, across, own, other)
    shared_ends = np.zeros((n, n), dtype=np.int64)
    offsets = np.ones((2, len(positions), n, n), dtype=np.int64)
    for r, s in ((r, s) for r in range(n) for s in range(n) if r != s):
        shared = set(rows[r][1:3]) & set(rows[s][1:3])
        if shared:
            centre = shared.pop()
            (y, own), (z, other) = (_ends(rows[k], centre) for k in (r, s))
            shared_ends[r, s] = 1 + 2 * (own == z) + (other == y)
            if own != z:
                offsets[0, :, r, s] += _handedness(positions, centre, y, own, z)
            if other != y:
                offsets[1, :, r, s] += _handedness(positions, centre, y, other, z)
    middles = quartets[:, 1:3]
    bonds_between = hops[middles[:, None, :, None], middles[None, :, None]].min((2, 3)) + 1
    np.fill_diagonal(bonds_between, 0)
    of_graph = np.broadcast_to(np.stack([bonds_between, shared_ends])[:, None], (2, *offsets.shape[1:]))
    return TorsionFeatures(
        elements=np.array([[codes.get(int(z), len(ELEMENTS)) for z in graph.atomic_numbers]]),
        features=np.minimum(graph.atom_features.astype(np.int64), np.array(FEATURE_SIZES) - 1)[None],
        pairs=pairs[None],
        quartets=quartets[None],
        sides=sides,
        relations=np.ravel_multi_index((*of_graph, *offsets), RELATION_SIZES),
    )


def _ends(quartet: list[int], centre: int) -> tuple[int, int]:
    """Inner atom of the torsion other than ``centre``, and the outer atom bonded to ``centre``."""
    first, b, c, last = quartet
    return (b, last) if c == centre else (c, first)


def _handedness(positions: np.ndarray, centre: int, a: int, b: int, c: int) -> Int64[np.ndarray, " conf"]:
    """Sign of the volume spanned by three bonds of ``centre``; 0 where they are nearly planar."""
    arms = positions[:, [a, b, c]] - positions[:, [centre]]
    volume = np.linalg.det(arms / np.linalg.norm(arms, axis=-1, keepdims=True))
    return np.where(np.abs(volume) > _PLANAR, np.sign(volume), 0).astype(np.int64)
