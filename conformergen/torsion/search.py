"""Torsion search: ETKDGv3 gives rings and local geometry, drawn torsions and MMFF94s give the minima.

This is the random search of Saunders (J. Am. Chem. Soc. 1987, 109, 3150) in torsion space (Chang, Guida, Still 1989,
doi 10.1021/ja00194a035). ETKDGv3 draws torsions as they occur in crystals; a molecule in the gas phase folds into forms
that it hardly ever draws. Uniformly drawn torsions reach these at the same cost, and torsions drawn by the torsion
model, which was trained on gas-phase minima, at less than half of it (``experiments/11-torsion-model.md``).
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from typing import Final

import numpy as np
from jaxtyping import Float64, Int64
from rdkit import Chem
from rdkit.Chem import rdForceFieldHelpers

from conformergen.chem import (
    EmbedSettings,
    atomic_masses,
    embed,
    get_torsions,
    heavy_atoms,
    is_macrocycle,
    rotatable_torsions,
    set_torsions,
    symmetry_group,
    to_mol,
    torsion_periods,
)
from conformergen.chem.embedding import random_seed
from conformergen.errors import InputError
from conformergen.geometry.duplicates import DuplicateRule, unique_conformers
from conformergen.geometry.stereo import stereo_ok
from conformergen.records import Fallback, Minima, Molecule
from conformergen.torsion.features import torsion_features
from conformergen.torsion.model import TorsionModelFile, draw_torsions, draw_uniform
from conformergen.torsion.novelty import select_diverse
from conformergen.torsion.restraints import FREE, RestrainedTorsions, TorsionRestraint, minimise_restrained

#: Minima of a force field differ in torsions or not at all: coarser criteria than CREGEN's, on heavy atoms only.
_SAME_MINIMUM: Final = DuplicateRule(energy_rmsd=0.3, rmsd=0.15)
#: Smallest number of embeddings, from which the ring conformations come.
_MIN_EMBEDDINGS: Final = 8
#: Rounds in which draws that resemble earlier ones are replaced by new draws.
_DRAWING_ROUNDS: Final = 3


@dataclass(frozen=True, kw_only=True)
class TorsionSearchSettings:
    """Depth of the search.

    Attributes:
        candidates_per_conformer: Minima made for each conformer asked for.
        minima_per_embedding: Minima that are made from one ETKDGv3 embedding.
        minima_per_macrocycle_embedding: The same for macrocycles, whose ring forms come from embeddings alone.
        uniform: Fraction of the torsions that are drawn uniformly, the others by the torsion model; 1 needs no model.
        restraint: Restraint of the torsions during the minimisation.
        same_minimum: When two minima are regarded as one.
        max_steps: Largest number of force-field iterations. A start that stops early is no minimum, looks like one
            more conformer and gets a wrong energy.
        window: Energy window above the lowest minimum, kcal/mol.
        timeout: Seconds of wall time for one call of RDKit's embedding.
    """

    candidates_per_conformer: int = 2
    minima_per_embedding: int = 8
    minima_per_macrocycle_embedding: int = 2
    uniform: float = 0.05
    restraint: TorsionRestraint = FREE
    same_minimum: DuplicateRule = _SAME_MINIMUM
    max_steps: int = 150
    window: float = 6.0
    timeout: int = 60

    def __post_init__(self) -> None:
        per_embedding = (self.minima_per_embedding, self.minima_per_macrocycle_embedding)
        if min(self.candidates_per_conformer, *per_embedding, self.max_steps, self.timeout) < 1 or self.window <= 0:
            raise InputError("torsion search: counts must be at least 1, and the window must be positive")
        if not 0 < self.uniform <= 1:
            raise InputError("torsion search: the uniform fraction must be above 0 and at most 1")


def torsion_minima(
    molecule: Molecule,
    n: int,
    *,
    seed: int,
    settings: TorsionSearchSettings | None = None,
    model: TorsionModelFile | None = None,
    on_fallback: Callable[[Fallback], None] = lambda fallback: None,
) -> Minima:
    """Up to ``n`` unique MMFF94s minima with the requested stereo, by increasing energy.

    For an achiral molecule only one of two mirror images is kept. Where MMFF94s has no parameters, or where it keeps
    the stereo of no start, the embeddings are returned as they are, with NaN energies.

    Args:
        molecule: Species.
        n: Number of minima.
        seed: Seed of all random numbers.
        settings: Depth of the search.
        model: Draws the torsions; may be missing only where ``settings.uniform`` is 1.
        on_fallback: Called with each way of embedding that gave conformers.

    Raises:
        MoleculeError: ``embed`` or ``stereo`` as ``chem.embed``.
        DataError: When the file of the torsion model is damaged.
    """
    settings = settings or TorsionSearchSettings()
    mol = to_mol(molecule)
    quartets = rotatable_torsions(mol)
    unminimised = EmbedSettings(mmff94s=False, timeout=settings.timeout)

    def embedded(count: int) -> Float64[np.ndarray, "conf atom 3"]:
        found = embed(molecule, count, seed=seed, settings=unminimised, on_fallback=on_fallback)
        return found.astype(np.float64)

    def without_energies() -> Minima:
        positions = embedded(n)
        return Minima(positions=positions, energies=np.full(len(positions), np.nan))

    if not rdForceFieldHelpers.MMFFHasAllMoleculeParams(mol):
        return without_energies()
    rotates = len(quartets) > 0
    n_starts = settings.candidates_per_conformer * n if rotates else n
    per_embedding = (
        settings.minima_per_macrocycle_embedding if is_macrocycle(molecule) else settings.minima_per_embedding
    )
    n_embeddings = max(_MIN_EMBEDDINGS, ceil(n_starts / per_embedding)) if rotates else n_starts
    embeddings = embedded(min(n_starts, n_embeddings))
    minima = None
    if rotates:
        rng = np.random.default_rng(random_seed(molecule, seed, "torsions"))
        torsions, source = _draw_starts(molecule, mol, embeddings, quartets, n_starts, rng, settings.uniform, model)
        starts = [set_torsions(mol, embeddings[i], quartets, row) for i, row in zip(source, torsions, strict=True)]
        minima = _minimise(molecule, np.array(starts), quartets, torsions, settings)
    if minima is None or len(minima) == 0:  # nothing rotates, or clashes inverted a stereocentre of every start
        own = np.array([get_torsions(mol, p, quartets) for p in embeddings])
        minima = _minimise(molecule, embeddings, quartets, own, settings)
    if len(minima) == 0:  # MMFF94s itself inverts the centre, of sulfur for example
        return without_energies()
    mirrored = molecule.graph.achiral
    return lowest_unique(molecule, minima, n, window=settings.window, mirrored=mirrored, rule=settings.same_minimum)


def lowest_unique(
    molecule: Molecule,
    minima: Minima,
    n: int,
    *,
    window: float = np.inf,
    mirrored: bool,
    rule: DuplicateRule = _SAME_MINIMUM,
) -> Minima:
    """The ``n`` lowest unique minima inside an energy window (kcal/mol).

    ``mirrored`` counts a mirror image as the same minimum.
    """
    mol = to_mol(molecule)
    minima = minima.select(minima.energies <= minima.energies.min() + window)
    kept = unique_conformers(
        minima.positions,
        minima.energies,
        masses=atomic_masses(molecule),
        compared=heavy_atoms(mol),
        group=symmetry_group(mol),
        achiral=mirrored,
        rule=rule,
        limit=n,
    )
    return minima.select(kept)


def _draw_starts(
    molecule: Molecule,
    mol: Chem.Mol,
    embeddings: Float64[np.ndarray, "embedding atom 3"],
    quartets: Int64[np.ndarray, "torsion 4"],
    n: int,
    rng: np.random.Generator,
    uniform: float,
    model: TorsionModelFile | None,
) -> tuple[Float64[np.ndarray, "n torsion"], Int64[np.ndarray, " n"]]:
    """Torsions in degrees of ``n`` starts, and the embedding of each.

    Draws that resemble earlier ones are replaced for some rounds; what is then still missing is filled with them.
    """
    if uniform == 1.0:

        def draw(count: int) -> Float64[np.ndarray, "count torsion"]:
            return draw_uniform(count, len(quartets), rng)

    else:
        if model is None:
            raise ValueError("a search with drawn torsions needs a torsion model")
        features, network = torsion_features(molecule.graph, quartets, embeddings), model.load()

        def draw(count: int) -> Float64[np.ndarray, "count torsion"]:
            return draw_torsions(network, features, count, rng, uniform=uniform)

    periods = torsion_periods(mol, quartets)
    degrees, source = np.empty((0, len(quartets))), np.empty(0, dtype=np.int64)
    kept = source
    for _ in range(_DRAWING_ROUNDS):
        if (missing := n - len(kept)) == 0:
            break
        degrees = np.concatenate([degrees, draw(missing)])
        source = np.concatenate([source, np.arange(missing) % len(embeddings)])
        kept = select_diverse(degrees, periods, n, mirrored=molecule.graph.achiral)
    rows = np.concatenate([kept, np.setdiff1d(np.arange(len(degrees)), kept)])[:n]
    return degrees[rows], source[rows]


def _minimise(
    molecule: Molecule,
    starts: Float64[np.ndarray, "start atom 3"],
    quartets: Int64[np.ndarray, "torsion 4"],
    degrees: Float64[np.ndarray, "start torsion"],
    settings: TorsionSearchSettings,
) -> Minima:
    """Minima that have the requested stereo."""
    torsions = RestrainedTorsions(quartets=quartets, degrees=degrees, restraint=settings.restraint)
    minima = minimise_restrained(molecule, starts, torsions, max_steps=settings.max_steps)
    return minima.select(stereo_ok(minima.positions, molecule.graph))
