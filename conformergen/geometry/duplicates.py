"""Which conformers are duplicates: CREGEN's criteria (Pracht, Bohle, Grimme 2020, doi 10.1039/c9cp06869d), or RMSD."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from conformergen.geometry.automorphism import SymmetryGroup
from conformergen.geometry.branch_bound import group_rmsd_matrix


@dataclass(frozen=True, kw_only=True)
class DuplicateRule:
    """When two conformers are regarded as one.

    Attributes:
        energy: Difference of energy, kcal/mol, below which conformers are the same if their rotational constants agree.
        rotational: Relative difference below which all three rotational constants agree.
        energy_rmsd: Difference of energy, kcal/mol, below which conformers are the same if their RMSD is small.
        rmsd: RMSD below which it is small; Å, symmetry-aware.
        screen: Relative difference of a rotational constant from which on no RMSD is computed: constants that differ
            by 10 % cannot belong to structures within 0.2 Å of each other.
    """

    energy: float = 0.05
    rotational: float = 0.01
    energy_rmsd: float = 0.25
    rmsd: float = 0.125
    screen: float = 0.10

    @classmethod
    def by_rmsd(cls, rmsd: float) -> "DuplicateRule":
        """Conformers are the same if their RMSD is below ``rmsd`` (Å), whatever their energies."""
        return cls(energy=0.0, energy_rmsd=float("inf"), rmsd=rmsd, screen=float("inf"))


def rotational_constants(
    positions: Float[np.ndarray, "conf atom 3"], masses: Float[np.ndarray, " atom"]
) -> Float[np.ndarray, "conf 3"]:
    """Inverse principal moments of inertia, in an arbitrary unit, descending."""
    centred = positions - (positions * masses[:, None]).sum(1, keepdims=True) / masses.sum()
    square = np.einsum("kni,knj,n->kij", centred, centred, masses)
    inertia = np.trace(square, axis1=1, axis2=2)[:, None, None] * np.eye(3) - square
    return 1.0 / np.maximum(np.linalg.eigvalsh(inertia), 1e-6)


def unique_conformers(
    positions: Float[np.ndarray, "conf atom 3"],
    energies: Float[np.ndarray, " conf"],
    *,
    masses: Float[np.ndarray, " atom"],
    compared: Int[np.ndarray, " compared"],
    group: SymmetryGroup,
    achiral: bool,
    rule: DuplicateRule,
    limit: int | None = None,
) -> list[int]:
    """Indices of unique conformers by increasing energy: each differs from all that are kept before it.

    Args:
        positions: Å.
        energies: kcal/mol; equal energies keep the order of the conformers.
        masses: Atomic masses.
        compared: Atoms whose RMSD decides.
        group: Automorphisms of ``compared``.
        achiral: Count a mirror image as the same conformer.
        rule: Criteria.
        limit: Stop after this many.
    """
    constants = rotational_constants(positions, masses)
    reduced = positions[:, compared]
    kept: list[int] = []
    for index in np.argsort(energies, kind="stable").tolist():
        near = [k for k in kept if energies[index] - energies[k] < rule.energy_rmsd]
        ratio = np.abs(constants[near] / constants[index] - 1.0).max(axis=1, initial=0.0)
        close = np.array([energies[index] - energies[k] < rule.energy for k in near], dtype=bool)
        if np.any(close & (ratio < rule.rotational)):
            continue
        candidates = [k for k, r in zip(near, ratio, strict=True) if r < rule.screen]
        if candidates:
            probes = reduced[index][None]
            if achiral:
                probes = np.concatenate([probes, -probes])
            if group_rmsd_matrix(reduced[candidates], probes, group).min() < rule.rmsd:
                continue
        kept.append(index)
        if limit is not None and len(kept) == limit:
            break
    return kept


def farthest_first(
    positions: Float[np.ndarray, "conf atom 3"], group: SymmetryGroup, n: int
) -> Int[np.ndarray, " picked"]:
    """The first conformer, then each time the one that is farthest (symmetry-aware RMSD) from those picked.

    Gonzalez 1985, doi 10.1016/0304-3975(85)90224-5; indices in the order of picking, at most ``n``.
    """
    picked = [0]
    nearest = group_rmsd_matrix(positions[:1], positions, group)[0]
    while len(picked) < min(n, len(positions)):
        picked.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, group_rmsd_matrix(positions[picked[-1:]], positions, group)[0])
    return np.array(picked, dtype=np.int64)
