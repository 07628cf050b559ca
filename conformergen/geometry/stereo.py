"""Handedness of centres and sides of double bonds, read from coordinates."""

from typing import Final

import numpy as np
from jaxtyping import Bool, Float

from conformergen.records import MolGraph

#: Normalised signed volume below which a centre counts as flat. Sampled over ETKDG and GFN2 minima,
#: proper centres have |volume| > 0.35 (four neighbours) or > 0.15 (pyramidal S, P); planar ones < 0.05.
FLAT_VOLUME: Final = 0.10


def signed_volumes(positions: Float[np.ndarray, "conf atom 3"], graph: MolGraph) -> Float[np.ndarray, "conf centre"]:
    """det(p1 - p4, p2 - p4, p3 - p4) of unit vectors for each stereocentre."""
    corner = positions[..., graph.centres[:, 4], :]
    arms = [positions[..., graph.centres[:, k], :] - corner for k in (1, 2, 3)]
    arms = [a / np.maximum(np.linalg.norm(a, axis=-1, keepdims=True), 1e-9) for a in arms]
    return np.einsum("...i,...i->...", arms[0], np.cross(arms[1], arms[2]))


def double_bond_cosines(
    positions: Float[np.ndarray, "conf atom 3"], graph: MolGraph
) -> Float[np.ndarray, "conf double"]:
    """Cosine of the dihedral a-b=c-d: +1 cis, -1 trans."""
    a, b, c, d = (positions[..., graph.double_bonds[:, k], :] for k in range(4))
    normal_1, normal_2 = np.cross(a - b, c - b), np.cross(b - c, d - c)
    norms = np.linalg.norm(normal_1, axis=-1) * np.linalg.norm(normal_2, axis=-1)
    return np.einsum("...i,...i->...", normal_1, normal_2) / np.maximum(norms, 1e-9)


def stereo_ok(positions: Float[np.ndarray, "conf atom 3"], graph: MolGraph) -> Bool[np.ndarray, " conf"]:
    """Whether every centre and double bond has the requested form, one answer per conformer."""
    volumes = signed_volumes(positions, graph) * graph.handedness
    cosines = double_bond_cosines(positions, graph) * graph.cis
    return np.all(volumes > FLAT_VOLUME, axis=-1) & np.all(cosines > 0.0, axis=-1)
