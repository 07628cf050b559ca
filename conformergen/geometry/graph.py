"""Bond-graph distances, and whether coordinates still show the bond graph."""

from typing import Final

import numpy as np
from jaxtyping import Bool, Float, Int64, UInt8
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components, shortest_path

from conformergen.records import MolGraph

#: Bonded if closer than this multiple of the summed covalent radii.
BOND_FACTOR: Final = 1.30
#: Largest hop count told apart; also the code of unconnected pairs.
MAX_HOPS: Final = 15
#: Code of a single bond in ``MolGraph.bond_types``.
_SINGLE: Final = 1
#: Covalent radii in Å, Cordero et al. 2008, doi 10.1039/b801115j, Z = 0..96.
_RADII: Final = np.array([
    0.0, 0.31, 0.28, 1.28, 0.96, 0.84, 0.76, 0.71, 0.66, 0.57, 0.58, 1.66, 1.41, 1.21, 1.11, 1.07, 1.05, 1.02, 1.06,
    2.03, 1.76, 1.70, 1.60, 1.53, 1.39, 1.39, 1.32, 1.26, 1.24, 1.32, 1.22, 1.22, 1.20, 1.19, 1.20, 1.20, 1.16, 2.20,
    1.95, 1.90, 1.75, 1.64, 1.54, 1.47, 1.46, 1.42, 1.39, 1.45, 1.44, 1.42, 1.39, 1.39, 1.38, 1.39, 1.40, 2.44, 2.15,
    2.07, 2.04, 2.03, 2.01, 1.99, 1.98, 1.98, 1.96, 1.94, 1.92, 1.92, 1.89, 1.90, 1.87, 1.87, 1.75, 1.70, 1.62, 1.51,
    1.44, 1.41, 1.36, 1.36, 1.32, 1.45, 1.46, 1.48, 1.40, 1.50, 1.50, 2.60, 2.21, 2.15, 2.06, 2.00, 1.96, 1.90, 1.87,
    1.80, 1.69,
])  # fmt: skip


def hop_counts(graph: MolGraph) -> UInt8[np.ndarray, "atom atom"]:
    """Bonds on the shortest path between atoms, at most ``MAX_HOPS``."""
    n = graph.n_atoms
    adjacency = coo_array((np.ones(len(graph.bonds)), (graph.bonds[:, 0], graph.bonds[:, 1])), shape=(n, n))
    hops = shortest_path(adjacency.tocsr(), directed=False, unweighted=True)
    return np.minimum(hops, MAX_HOPS).astype(np.uint8)


def rotatable_bonds(graph: MolGraph) -> tuple[Int64[np.ndarray, "rotatable 2"], Bool[np.ndarray, "rotatable atom"]]:
    """Single bonds outside rings whose ends have further neighbours, and the atoms beyond each: the fewer ones.

    Those move when the bond rotates; the second end is the one beside them.
    """
    n, degrees = graph.n_atoms, np.bincount(graph.bonds.ravel(), minlength=graph.n_atoms)
    bonds, beyond = [], []
    for index, (j, k) in enumerate(graph.bonds.tolist()):
        if graph.bond_types[index] != _SINGLE or min(degrees[j], degrees[k]) < 2:
            continue
        others = np.delete(graph.bonds, index, axis=0)
        cut = coo_array((np.ones(len(others)), (others[:, 0], others[:, 1])), shape=(n, n))
        side = connected_components(cut, directed=False)[1]
        if side[j] == side[k]:
            continue
        if (side == side[k]).sum() > (side == side[j]).sum():
            j, k = k, j
        bonds.append((j, k))
        beyond.append((side == side[k]) & (np.arange(n) != k))
    return np.array(bonds, dtype=np.int64).reshape(-1, 2), np.array(beyond, dtype=bool).reshape(-1, n)


def bonds_kept(positions: Float[np.ndarray, "conf atom 3"], graph: MolGraph) -> Bool[np.ndarray, " conf"]:
    """Whether each conformer shows exactly the bonds of the graph.

    H-H contacts and 1-3 pairs are ignored: small bicycles hold non-bonded atoms within bonding distance.
    """
    radii = _RADII[np.minimum(graph.atomic_numbers, len(_RADII) - 1)]
    close = BOND_FACTOR * (radii[:, None] + radii[None, :])
    hops = hop_counts(graph)
    hydrogen = graph.atomic_numbers == 1
    judged = np.triu(hops != 2, k=1) & ~(hydrogen[:, None] & hydrogen[None, :])
    first, second = np.nonzero(judged)
    distances = np.linalg.norm(positions[:, first] - positions[:, second], axis=-1)
    return np.all((distances < close[first, second]) == (hops[first, second] == 1), axis=1)
