"""Pairing ``assigned``: independent ETKDGv3 conformers, assigned to references by RMSD.

The one-to-one assignment minimises the symmetry-aware RMSD (the coupling of torsional diffusion, Jing et al. 2022,
arXiv 2206.01729, with RMSD as cost). The best automorphism and the Kabsch rotation over heavy atoms bring a start into
the labelling and frame of its reference; hydrogens follow their heavy atom.
"""

from typing import Final

import numpy as np
from jaxtyping import Float32, Int32
from scipy.optimize import linear_sum_assignment

from conformergen.chem import EmbedSettings, embed, heavy_atoms, relabelings, to_mol
from conformergen.datasets.pairing.interface import Starts
from conformergen.geometry.rmsd import kabsch_rotation, rmsd_matrix
from conformergen.records import ConformerSet, MolGraph

#: Largest number of automorphisms that are tried.
_MAX_AUTOMORPHISMS: Final = 256


def pair(conformers: ConformerSet, *, min_starts: int, mmff94s: bool, seed: int) -> Starts | None:
    """Embed as many start structures as there are references, and assign them; arguments and result as ``Pairing``."""
    molecule = conformers.molecule
    mol = to_mol(molecule)
    n = max(len(conformers), min_starts)
    starts = embed(molecule, n, seed=seed, settings=EmbedSettings(mmff94s=mmff94s))
    if len(starts) < len(conformers):  # RDKit embedded fewer: some are used more than once
        starts = starts[np.arange(len(conformers)) % len(starts)]
    heavy = heavy_atoms(mol)
    permutations, _ = relabelings(mol, max_matches=_MAX_AUTOMORPHISMS)
    cost, best = rmsd_matrix(conformers.positions[:, heavy], starts[:, heavy], permutations)
    rows, columns = linear_sum_assignment(cost)
    paired = np.empty_like(conformers.positions)
    parents = hydrogen_parents(molecule.graph)
    for row, column in zip(rows, columns, strict=True):
        paired[row] = align_start(
            conformers.positions[row],
            starts[column],
            heavy=heavy,
            permutation=permutations[best[row, column]],
            parents=parents,
        )
    return paired


def hydrogen_parents(graph: MolGraph) -> Int32[np.ndarray, " atom"]:
    """Neighbour of each hydrogen; -1 for heavy atoms and for hydrogens bonded to hydrogen."""
    parents = np.full(graph.n_atoms, -1, dtype=np.int32)
    for a, b in graph.bonds.tolist():
        for hydrogen, other in ((a, b), (b, a)):
            if graph.atomic_numbers[hydrogen] == 1 and graph.atomic_numbers[other] != 1:
                parents[hydrogen] = other
    return parents


def align_start(
    reference: Float32[np.ndarray, "atom 3"],
    start: Float32[np.ndarray, "atom 3"],
    *,
    heavy: Int32[np.ndarray, " heavy"],
    permutation: Int32[np.ndarray, " heavy"],
    parents: Int32[np.ndarray, " atom"],
) -> Float32[np.ndarray, "atom 3"]:
    """Relabel ``start`` and superpose it on ``reference``.

    Args:
        reference: Å.
        start: Å.
        heavy: Indices of heavy atoms.
        permutation: Automorphism of the heavy atoms that is applied to ``start``.
        parents: Result of ``hydrogen_parents``.
    """
    target_mean = reference[heavy].mean(axis=0)
    source = heavy[permutation]
    mobile_mean = start[source].mean(axis=0)
    rotation = kabsch_rotation(reference[heavy] - target_mean, start[source] - mobile_mean)
    moved = (start - mobile_mean) @ rotation + target_mean
    result = moved.copy()
    result[heavy] = moved[source]
    image = {int(h): int(s) for h, s in zip(heavy, source, strict=True)}
    for parent in np.unique(parents[parents >= 0]).tolist():
        own = np.flatnonzero(parents == parent)
        theirs = np.flatnonzero(parents == image[parent])
        distance = np.linalg.norm(reference[own][:, None] - moved[theirs][None], axis=-1)
        rows, columns = linear_sum_assignment(distance**2)
        result[own[rows]] = moved[theirs[columns]]
    return result.astype(np.float32)
