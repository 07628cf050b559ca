"""Random search of torsions: ETKDGv3 gives rings and local geometry, drawn torsions and MMFF94s give basins.

The random search of Saunders (J. Am. Chem. Soc. 1987, 109, 3150) in torsion space (Chang, Guida, Still 1989,
doi 10.1021/ja00194a035). ETKDGv3 draws torsions as crystals show them; a molecule in the gas phase folds into forms
that it hardly ever draws. A uniform draw followed by minimisation reaches these at the same cost, and one from the
learned torsions of gas-phase minima (``torsion_model``) at less than half of it (docs/experiments.md).
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, isnan, lcm
from typing import Final

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64
from rdkit import Chem
from rdkit.Chem import rdForceFieldHelpers, rdMolTransforms

from conformergen.chem.embedding import EmbedSettings, embed, random_seed
from conformergen.chem.forcefield import HeldTorsions, Hold, minimise_mmff
from conformergen.chem.molecule import atomic_masses, largest_ring, mol_with_conformers, to_mol
from conformergen.chem.symmetry import heavy_atoms, symmetry_group
from conformergen.chem.torsion_model import describe, draw_torsions, shipped_torsion_model, torsion_quartets
from conformergen.errors import InputError
from conformergen.geometry.duplicates import DuplicateRule, unique_conformers
from conformergen.geometry.stereo import stereo_ok
from conformergen.records import Molecule

#: Single bonds outside rings between atoms that have a further neighbour each, no triple bond beside them.
_ROTOR: Final = Chem.MolFromSmarts("[!$(*#*)&!D1]-&!@[!$(*#*)&!D1]")
#: Minima of a force field differ in torsions or not at all: coarser than CREGEN's criteria, heavy atoms only.
_SAME: Final = DuplicateRule(energy_rmsd=0.3, rmsd=0.15)
#: Ring conformations come from the seeds: at least so many, whatever their share.
_MIN_SEEDS: Final = 8
_FREE: Final = Hold()
#: Of a model's candidates: torsions drawn from a histogram of ten degrees stay about where they are put.
DRAWN: Final = Hold(constant=2e-3, slack=8.0)
#: Of samples between two evaluations, and the iterations that bonds and angles take.
_SAMPLED: Final = Hold(constant=5e-3)
_SETTLING_STEPS: Final = 12
#: Atoms of a ring from which on it is a macrocycle.
MACROCYCLE: Final = 9
#: How much wider the window may become for conformers that differ.
_WIDER: Final = 3
#: Starts differ by so many degrees in some torsion; what does not is drawn again, in so many rounds at most.
_APART, _ROUNDS = 30.0, 3


@dataclass(frozen=True, kw_only=True)
class TorsionSettings:
    """Depth of the search.

    Attributes:
        pool: Minima made for each conformer asked for.
        seeds_share: One ETKDGv3 embedding for so many minima.
        macrocycle_share: The same where a ring has ``MACROCYCLE`` atoms or more: its forms come from embeddings alone.
        uniform: Share of the torsions that is drawn uniformly, the others by ``chem.torsion_model``; 1 is a search
            without prejudice.
        hold: How torsions are pulled back to where they were put. MMFF94s turns the torsions of GFN2-xTB minima by
            .6 Å of RMSD and merges many of them; held, its minima are nearer to those.
        same: Which minima are one.
        max_steps: Force-field iterations at most, in one go: what stops early is no minimum, looks like one more
            conformer, and is misjudged.
        temperature: kcal/mol; repeats are drawn with probability falling as exp(-E/temperature). Well above room
            temperature, because the force field's order of conformers is off by several kcal/mol.
        window: kcal/mol above the lowest minimum that is given.
        different: Share of the conformers asked for that are different ones where the window holds fewer, from a window
            ``_WIDER`` times as wide.
        timeout: Seconds of wall time per call of RDKit's embedding.
    """

    pool: int = 2
    seeds_share: int = 8
    macrocycle_share: int = 2
    uniform: float = 0.05
    hold: Hold = _FREE
    same: DuplicateRule = _SAME
    max_steps: int = 150
    temperature: float = 4.0
    window: float = 6.0
    different: float = 0.0
    timeout: int = 60

    def __post_init__(self) -> None:
        counts = (self.pool, self.seeds_share, self.macrocycle_share, self.max_steps, self.timeout)
        if min(counts) < 1 or min(self.temperature, self.window) <= 0 or self.hold.constant < 0:
            raise InputError(
                "torsion search: counts must be at least 1, temperature and window positive, hold not negative"
            )
        if not (0 < self.uniform <= 1 and 0 <= self.different <= 1):
            raise InputError("torsion search: shares must be at most 1, the uniform one above 0")


def rotors(mol: Chem.Mol) -> Int64[np.ndarray, "rotor 4"]:
    """Quartets of atoms, one for each bond that is turned; explicit hydrogens count, methyl groups do not."""
    quartets = []
    for a, b in mol.GetSubstructMatches(_ROTOR):
        ends = [
            [n.GetIdx() for n in mol.GetAtomWithIdx(i).GetNeighbors() if n.GetIdx() != j] for i, j in ((a, b), (b, a))
        ]
        if not any(_is_methyl(mol.GetAtomWithIdx(i)) for i in (a, b)):
            quartets.append((ends[0][0], a, b, ends[1][0]))
    return np.array(quartets, dtype=np.int64).reshape(-1, 4)


def _is_methyl(atom: Chem.Atom) -> bool:
    return atom.GetAtomicNum() == 6 and sum(n.GetAtomicNum() == 1 for n in atom.GetNeighbors()) == 3


def get_torsions(
    mol: Chem.Mol, positions: Float64[np.ndarray, "atom 3"], quartets: Int64[np.ndarray, "rotor 4"]
) -> Float64[np.ndarray, " rotor"]:
    """Dihedral angles, degrees; the conformers of ``mol`` play no part."""
    conformer = Chem.Conformer(mol.GetNumAtoms())
    conformer.SetPositions(positions)
    return np.array([rdMolTransforms.GetDihedralDeg(conformer, *quartet) for quartet in quartets.tolist()])


def set_torsions(
    mol: Chem.Mol,
    positions: Float64[np.ndarray, "atom 3"],
    quartets: Int64[np.ndarray, "rotor 4"],
    degrees: Float64[np.ndarray, " rotor"],
) -> Float64[np.ndarray, "atom 3"]:
    """Turn bonds to dihedral angles; NaN leaves a bond as it is."""
    turned = Chem.Mol(mol, True)  # noqa: FBT003  RDKit takes no keyword: without conformers
    turned.RemoveAllConformers()
    turned.AddConformer(Chem.Conformer(mol.GetNumAtoms()))
    conformer = turned.GetConformer()
    conformer.SetPositions(positions)
    for (i, j, k, m), angle in zip(quartets.tolist(), degrees.tolist(), strict=True):
        if not isnan(angle):
            rdMolTransforms.SetDihedralDeg(conformer, i, j, k, m, angle)
    return conformer.GetPositions()


def torsion_search(
    molecule: Molecule,
    n: int,
    *,
    seed: int,
    settings: TorsionSettings | None = None,
    note: Callable[[int], None] = lambda rung: None,
) -> tuple[Float64[np.ndarray, "conf atom 3"], Float64[np.ndarray, " conf"]]:
    """``n`` MMFF94s minima (Å, kcal/mol) with the requested stereo: different ones in rising energy, then repeats.

    A molecule without stereocentres has every conformer in two mirror images of one energy: half of its conformers
    are made, and then reflected. Repeats are drawn by Boltzmann weight. Where MMFF94s has no parameters, or nothing
    turns, the minima of the seeds are given; without parameters, or where MMFF94s keeps the stereo of none, the
    embeddings as they are, with energies NaN. ``note`` as in ``chem.embed``.

    Raises:
        MoleculeError: ``embed`` or ``stereo`` as ``chem.embed``.
    """
    settings = settings or TorsionSettings()
    positions, energies = torsion_minima(molecule, distinct(molecule, n), seed=seed, settings=settings, note=note)
    filling = fill(molecule, energies, n, seed=seed, settings=settings)
    return filling.of(positions), energies[filling.rows]


def distinct(molecule: Molecule, n: int) -> int:
    """Conformers to make for ``n``: half where each stands for its mirror image too."""
    return ceil(n / 2) if molecule.graph.achiral else n


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Filling:
    """The ``n`` conformers asked for, each one of fewer different ones or its mirror image."""

    rows: Int64[np.ndarray, " n"]
    mirrored: Bool[np.ndarray, " n"]

    def of(self, positions: Float[np.ndarray, "conf atom 3"]) -> Float[np.ndarray, "n atom 3"]:
        """Positions of all from those of the different ones."""
        signs = np.where(self.mirrored, -1, 1).astype(positions.dtype)
        return positions[self.rows] * signs[:, None, None]


def fill(
    molecule: Molecule, energies: Float64[np.ndarray, " conf"], n: int, *, seed: int, settings: TorsionSettings
) -> Filling:
    """``n`` of different conformers: the lowest inside the window, repeats by Boltzmann weight, mirror images."""
    wanted = distinct(molecule, n)
    rows = emitted(energies, wanted, settings, np.random.default_rng(random_seed(molecule, seed, "repeats")))
    return Filling(rows=np.resize(rows, n), mirrored=np.arange(n) >= wanted)


def emitted(
    energies: Float64[np.ndarray, " conf"], n: int, settings: TorsionSettings, rng: np.random.Generator
) -> Int64[np.ndarray, " n"]:
    """Indices of the lowest inside the window, and of repeats by Boltzmann weight; of all in turn without energies."""
    if not np.isfinite(energies).all():
        return np.resize(np.arange(len(energies)), n)
    order = np.argsort(energies, kind="stable")
    inside, wider = (np.count_nonzero(energies <= energies.min() + w * settings.window) for w in (1, _WIDER))
    order = order[: min(n, max(inside, min(wider, ceil(settings.different * n))))]
    weights = np.exp(-(energies[order] - energies.min()) / settings.temperature)
    return np.concatenate([order, rng.choice(order, size=n - len(order), p=weights / weights.sum())])


def torsion_minima(
    molecule: Molecule,
    n: int,
    *,
    seed: int,
    settings: TorsionSettings | None = None,
    note: Callable[[int], None] = lambda rung: None,
) -> tuple[Float64[np.ndarray, "conf atom 3"], Float64[np.ndarray, " conf"]]:
    """Up to ``n`` different MMFF94s minima (Å, kcal/mol) in rising energy; of mirror images without centres, one.

    Embeddings with energies NaN where MMFF94s has no parameters or keeps the stereo of none.

    Raises:
        MoleculeError: ``embed`` or ``stereo`` as ``chem.embed``.
    """
    settings = settings or TorsionSettings()
    mol = to_mol(molecule)
    quartets = torsion_quartets(molecule.graph, rotors(mol)[:, 1:3])
    plain = EmbedSettings(mmff94s=False, timeout=settings.timeout)

    def unminimised() -> tuple[np.ndarray, np.ndarray]:
        positions = embed(molecule, n, seed=seed, settings=plain, note=note).astype(np.float64)
        return positions, np.full(len(positions), np.nan)

    if not rdForceFieldHelpers.MMFFHasAllMoleculeParams(mol):
        return unminimised()
    turns = len(quartets) > 0
    made = settings.pool * n if turns else n
    share = settings.seeds_share if largest_ring(molecule.smiles) < MACROCYCLE else settings.macrocycle_share
    n_seeds = max(_MIN_SEEDS, ceil(made / share)) if turns else made
    seeds = embed(molecule, min(made, n_seeds), seed=seed, settings=plain, note=note).astype(np.float64)
    if turns:
        rng = np.random.default_rng(random_seed(molecule, seed, "torsions"))
        torsions, which = _starts(molecule, mol, seeds, quartets, made, rng, settings.uniform)
        starts = [set_torsions(mol, seeds[i], quartets, row) for i, row in zip(which, torsions, strict=True)]
        positions, energies = _minimised(molecule, np.array(starts), quartets, torsions, settings)
    if not turns or len(positions) == 0:  # clashes inverted a centre, every time
        own = np.array([get_torsions(mol, p, quartets) for p in seeds])
        positions, energies = _minimised(molecule, seeds, quartets, own, settings)
    if len(positions) == 0:  # MMFF94s itself inverts it, of sulfur for example
        return unminimised()
    return different(
        molecule, positions, energies, n, window=settings.window, mirrored=molecule.graph.achiral, same=settings.same
    )


def periods(mol: Chem.Mol, quartets: Int64[np.ndarray, "rotor 4"]) -> Float64[np.ndarray, " rotor"]:
    """Degrees after which a turned bond looks the same: less than 360 where all atoms at one end are alike."""
    ranks = list(Chem.CanonicalRankAtoms(mol, breakTies=False))

    def folds(centre: int, across: int) -> int:
        atom = mol.GetAtomWithIdx(centre)
        outer = [ranks[a.GetIdx()] for a in atom.GetNeighbors() if a.GetIdx() != across]
        planar = atom.GetHybridization() == Chem.HybridizationType.SP2
        return len(outer) if len(set(outer)) == 1 and (len(outer) == 3 or (len(outer) == 2 and planar)) else 1

    return np.array([360.0 / lcm(folds(b, c), folds(c, b)) for _, b, c, _ in quartets.tolist()])


def apart(
    degrees: Float64[np.ndarray, "draw rotor"], period: Float64[np.ndarray, " rotor"], n: int, *, mirrored: bool
) -> Int64[np.ndarray, " kept"]:
    """Up to ``n`` of the draws, each different from those before it; ``mirrored``: and from their mirror images."""
    kept: list[int] = []
    for row, own in enumerate(degrees):
        images = [own, -own] if mirrored else [own]
        off = [np.abs((degrees[kept] - image + period / 2) % period - period / 2).max(axis=1) for image in images]
        if all((each > _APART).all() for each in off):
            kept.append(row)
        if len(kept) == n:
            break
    return np.array(kept, dtype=np.int64)


def _starts(
    molecule: Molecule,
    mol: Chem.Mol,
    seeds: np.ndarray,
    quartets: np.ndarray,
    n: int,
    rng: np.random.Generator,
    uniform: float,
) -> tuple[Float64[np.ndarray, "n rotor"], Int64[np.ndarray, " n"]]:
    """Torsions, degrees, for ``n`` starts, and the seed of each; repeats where rounds of draws give nothing else."""
    described, period = describe(molecule.graph, quartets, seeds), periods(mol, quartets)
    degrees, which = np.empty((0, len(quartets))), np.empty(0, dtype=np.int64)
    kept = which
    for _ in range(_ROUNDS):
        if (missing := n - len(kept)) == 0:
            break
        drawn = draw_torsions(shipped_torsion_model(), described, missing, rng, uniform=uniform)
        degrees, which = np.concatenate([degrees, drawn]), np.concatenate([which, np.arange(missing) % len(seeds)])
        kept = apart(degrees, period, n, mirrored=molecule.graph.achiral)
    rows = np.concatenate([kept, np.setdiff1d(np.arange(len(degrees)), kept)])[:n]
    return degrees[rows], which[rows]


def different(
    molecule: Molecule,
    positions: Float64[np.ndarray, "conf atom 3"],
    energies: Float64[np.ndarray, " conf"],
    n: int,
    *,
    window: float = np.inf,
    mirrored: bool,
    same: DuplicateRule = _SAME,
) -> tuple[Float64[np.ndarray, "kept atom 3"], Float64[np.ndarray, " kept"]]:
    """The ``n`` lowest different force-field minima inside the window; ``mirrored``: of mirror images, one."""
    mol = to_mol(molecule)
    inside = energies <= energies.min() + window
    positions, energies = positions[inside], energies[inside]
    kept = unique_conformers(
        positions,
        energies,
        masses=atomic_masses(molecule),
        compared=heavy_atoms(mol),
        group=symmetry_group(mol),
        achiral=mirrored,
        rule=same,
        limit=n,
    )
    return positions[kept], energies[kept]


def settle(
    molecule: Molecule, positions: Float64[np.ndarray, "conf atom 3"]
) -> tuple[Float64[np.ndarray, "conf atom 3"], Float64[np.ndarray, " conf"]]:
    """MMFF94s minima with the torsions that the conformers have, Å, and energies, kcal/mol (NaN without parameters)."""
    mol = mol_with_conformers(molecule, positions)
    quartets = torsion_quartets(molecule.graph, rotors(mol)[:, 1:3])
    degrees = np.array([get_torsions(mol, p, quartets) for p in positions])
    held = HeldTorsions(quartets=quartets, degrees=degrees, hold=_SAMPLED)
    _, energies = minimise_mmff(mol, max_steps=_SETTLING_STEPS, held=held)
    return np.array([c.GetPositions() for c in mol.GetConformers()]), energies


def _minimised(
    molecule: Molecule, positions: np.ndarray, quartets: np.ndarray, degrees: np.ndarray, settings: TorsionSettings
) -> tuple[Float64[np.ndarray, "kept atom 3"], Float64[np.ndarray, " kept"]]:
    """Minimise; what has the requested stereo is given."""
    mol = mol_with_conformers(molecule, positions)
    held = HeldTorsions(quartets=quartets, degrees=degrees, hold=settings.hold)
    _, energies = minimise_mmff(mol, max_steps=settings.max_steps, held=held)
    minima = np.array([c.GetPositions() for c in mol.GetConformers()]).reshape(positions.shape)
    good = stereo_ok(minima, molecule.graph)
    return minima[good], energies[good]
