"""Pair ETKDG seed conformers with reference conformers and bring them into one frame and labelling.

One-to-one assignment on the symmetry-aware RMSD matrix (the coupling of torsional diffusion, Jing et al. 2022,
arXiv 2206.01729, with RMSD as cost), then the best automorphism and the Kabsch rotation over heavy atoms;
hydrogens follow their heavy atom.
"""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from jaxtyping import Float32, Int32
from rdkit import Chem
from scipy.optimize import linear_sum_assignment

from conformergen.chem import (
    EmbedSettings,
    embed,
    heavy_atoms,
    minimise_mmff,
    mol_with_conformers,
    relabelings,
    to_mol,
)
from conformergen.chem.embedding import random_seed
from conformergen.chem.forcefield import HeldTorsions
from conformergen.chem.torsion import DRAWN, get_torsions, rotors, set_torsions
from conformergen.errors import InputError
from conformergen.geometry.graph import bonds_kept
from conformergen.geometry.rmsd import kabsch_rotation, rmsd_matrix
from conformergen.geometry.stereo import stereo_ok
from conformergen.records import ConformerSet, MolGraph

#: Iterations of a ``relaxed`` seed at most.
_RELAX_STEPS: Final = 500
#: Standard deviation of the turns of a ``turned`` seed, degrees, and how far from its reference it may end, Å of heavy
#: atoms. As far as torsions of candidates are from those of the GFN2-xTB minima they lead to (docs/experiments.md).
_TURN: Final = 10.0
_FAR: Final = 1.0
PAIRINGS: Final = ("assigned", "relaxed", "turned")


@dataclass(frozen=True, kw_only=True)
class SeedSettings:
    """Seeds stored beside training conformers.

    Attributes:
        pool: Seeds made for each molecule at least; a full ensemble gets as many as it has conformers.
        mmff94s: Minimise seeds with MMFF94s. Use at inference what was used in training.
        pairing: Entry of ``PAIRINGS``. ``relaxed`` starts MMFF94s from the reference itself, so that seed and
            reference lie in one basin and the map between them is single-valued; ``turned`` does so after a small turn
            of every torsion, which is then held as in the candidates of ``generate``; ``assigned`` pairs
            independent ETKDGv3 seeds with references.
    """

    pool: int = 8
    mmff94s: bool = True
    pairing: str = "assigned"

    def __post_init__(self) -> None:
        if self.pairing not in PAIRINGS:
            raise InputError(f"seeds.pairing {self.pairing!r} is not one of {', '.join(PAIRINGS)}")
        if self.pairing != "assigned" and not self.mmff94s:
            raise InputError(f"seeds.pairing {self.pairing!r} needs seeds.mmff94s")
        if self.pool < 1:
            raise InputError("seeds.pool must be at least 1")


def with_seeds(conformers: ConformerSet, settings: SeedSettings, *, seed: int) -> ConformerSet:
    """Attach one aligned seed conformer to each conformer.

    Raises:
        MoleculeError: ``embed`` or ``stereo`` when no seed can be made.
    """
    molecule = conformers.molecule
    if settings.pairing != "assigned" and (relaxed := _relaxed(conformers)) is not None:
        return replace(
            conformers, seeds=_turned(conformers, relaxed, seed) if settings.pairing == "turned" else relaxed
        )
    mol = to_mol(molecule)
    n = max(len(conformers), settings.pool)
    seeds = embed(molecule, n, seed=seed, settings=EmbedSettings(mmff94s=settings.mmff94s))
    if len(seeds) < len(conformers):  # RDKit gave up early: use some seeds more than once
        seeds = seeds[np.arange(len(conformers)) % len(seeds)]
    heavy = heavy_atoms(mol)
    permutations, _ = relabelings(mol, max_matches=256)
    cost, best = rmsd_matrix(conformers.positions[:, heavy], seeds[:, heavy], permutations)
    rows, columns = linear_sum_assignment(cost)
    paired = np.empty_like(conformers.positions)
    parents = hydrogen_parents(molecule.graph)
    for row, column in zip(rows, columns, strict=True):
        paired[row] = align_seed(
            conformers.positions[row],
            seeds[column],
            heavy=heavy,
            permutation=permutations[best[row, column]],
            parents=parents,
        )
    return replace(conformers, seeds=paired)


def _relaxed(conformers: ConformerSet) -> Float32[np.ndarray, "conf atom 3"] | None:
    """MMFF94s minima that each reference falls into, in its frame; None without MMFF parameters."""
    mol = mol_with_conformers(conformers.molecule, conformers.positions)
    _, energies = minimise_mmff(mol, max_steps=_RELAX_STEPS)
    if not np.isfinite(energies).all():
        return None
    return _in_frame(conformers, mol)


def _turned(
    conformers: ConformerSet, relaxed: Float32[np.ndarray, "conf atom 3"], seed: int
) -> Float32[np.ndarray, "conf atom 3"]:
    """Held minima of each reference with its torsions turned a little; ``relaxed`` where that leads elsewhere."""
    molecule = conformers.molecule
    mol = to_mol(molecule)
    quartets = rotors(mol)
    if len(quartets) == 0:
        return relaxed
    rng = np.random.default_rng(random_seed(molecule, seed, "turned"))
    references = conformers.positions.astype(np.float64)
    degrees = np.array([get_torsions(mol, p, quartets) for p in references])
    degrees += rng.normal(0.0, _TURN, degrees.shape)
    starts = np.array([set_torsions(mol, p, quartets, row) for p, row in zip(references, degrees, strict=True)])
    minima = mol_with_conformers(molecule, starts)
    held = HeldTorsions(quartets=quartets, degrees=degrees, hold=DRAWN)
    minimise_mmff(minima, max_steps=_RELAX_STEPS, held=held)
    turned = _in_frame(conformers, minima)
    heavy = heavy_atoms(mol)
    off = np.sqrt(((turned[:, heavy] - conformers.positions[:, heavy]) ** 2).sum(-1).mean(-1))
    good = stereo_ok(turned, molecule.graph) & bonds_kept(turned, molecule.graph) & (off < _FAR)
    return np.where(good[:, None, None], turned, relaxed)


def _in_frame(conformers: ConformerSet, mol: Chem.Mol) -> Float32[np.ndarray, "conf atom 3"]:
    """Positions of the conformers of ``mol``, each turned onto the heavy atoms of its reference."""
    heavy = heavy_atoms(mol)
    moved = np.array([c.GetPositions() for c in mol.GetConformers()])
    for reference, positions in zip(conformers.positions.astype(np.float64), moved, strict=True):
        target, mobile = reference[heavy].mean(axis=0), positions[heavy].mean(axis=0)
        rotation = kabsch_rotation(reference[heavy] - target, positions[heavy] - mobile)
        positions[:] = (positions - mobile) @ rotation + target
    return moved.astype(np.float32)


def hydrogen_parents(graph: MolGraph) -> Int32[np.ndarray, " atom"]:
    """Neighbour of each hydrogen; -1 for heavy atoms and for hydrogens bound to hydrogen."""
    parents = np.full(graph.n_atoms, -1, dtype=np.int32)
    for a, b in graph.bonds.tolist():
        for hydrogen, other in ((a, b), (b, a)):
            if graph.atomic_numbers[hydrogen] == 1 and graph.atomic_numbers[other] != 1:
                parents[hydrogen] = other
    return parents


def align_seed(
    reference: Float32[np.ndarray, "atom 3"],
    seed: Float32[np.ndarray, "atom 3"],
    *,
    heavy: Int32[np.ndarray, " heavy"],
    permutation: Int32[np.ndarray, " heavy"],
    parents: Int32[np.ndarray, " atom"],
) -> Float32[np.ndarray, "atom 3"]:
    """Relabel and rotate ``seed`` onto ``reference``."""
    target_mean = reference[heavy].mean(axis=0)
    source = heavy[permutation]
    mobile_mean = seed[source].mean(axis=0)
    rotation = kabsch_rotation(reference[heavy] - target_mean, seed[source] - mobile_mean)
    moved = (seed - mobile_mean) @ rotation + target_mean
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
