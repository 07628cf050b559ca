"""Bond-graph distances, and whether coordinates still show the bond graph."""

from typing import Final

import numpy as np
from jaxtyping import Bool, Float, UInt8
from scipy.sparse import coo_array
from scipy.sparse.csgraph import shortest_path

from conformergen.records import MolGraph

#: Bonded if closer than this multiple of the summed covalent radii.
BOND_FACTOR: Final = 1.30
#: Largest hop count told apart; also the code of unconnected pairs.
MAX_HOPS: Final = 15
# Covalent radii in Å, Cordero et al. 2008, doi 10.1039/b801115j, Z = 0..96.
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
