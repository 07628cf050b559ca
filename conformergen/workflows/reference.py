"""SMILES to a complete GFN2-xTB ensemble: the pipeline of one molecule.

Random torsion search, GFN-FF optimisation, GFN-FF metadynamics from the lowest minima, duplicate removal by CREGEN's
criteria, GFN2-xTB single points, crude and final optimisation, then torsions of the minima found crossed and turned on
the GFN2-xTB surface itself, 6 kcal/mol window. The order of work, the metadynamics ladder and the crossing
follow CREST (Pracht, Bohle, Grimme 2020, doi 10.1039/c9cp06869d).
"""

import resource
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from rdkit import Chem
from rdkit.Chem import rdMolDescriptors

from conformergen.chem import (
    TorsionSettings,
    atomic_masses,
    get_torsions,
    rotors,
    set_torsions,
    symmetry_group,
    torsion_minima,
)
from conformergen.chem.embedding import random_seed
from conformergen.errors import InputError, MoleculeError
from conformergen.geometry.branch_bound import group_rmsd_matrix
from conformergen.geometry.duplicates import DuplicateRule, unique_conformers
from conformergen.geometry.graph import bonds_kept
from conformergen.geometry.stereo import stereo_ok
from conformergen.records import ConformerSet, Molecule
from conformergen.refinement import xtb
from conformergen.refinement.engines import ENGINES, choose_engine
from conformergen.units import GAS_CONSTANT, ROOM_TEMPERATURE

#: CREST's ladder of pushes (hartree per atom) and widths (bohr^-2).
_LADDER: Final = ((0.003, 1.3), (0.0015, 0.78), (0.003, 0.468), (0.0015, 0.281))
#: Crossing: share of crossed children and of crossed torsions, width of a turn (degrees), window of the children's
#: single points (kcal/mol), and distance (Å) below which a crude minimum is a known one.
_CROSSED: Final = 0.5
_TURN: Final = 70.0
_CHILD_WINDOW: Final = 15.0
_KNOWN: Final = 0.25
#: A child whose torsions are all this near (degrees) to those of a minimum or of another child leads to the same
#: place; draws for each child that is made.
_NEAR: Final = 30.0
_DRAWS: Final = 20
#: A crude minimum ends at most this far below, kcal/mol.
_MARGIN: Final = 1.5
#: Called with each stage of GFN2-xTB minima, its positions (Å) and energies (kcal/mol).
Watch = Callable[[str, np.ndarray, np.ndarray], None]
#: Positions to a minimum and its energy, or None.
Optimise = Callable[[np.ndarray], tuple[np.ndarray, float] | None]
LEVELS: Final = ("gfn2-xtb", "gfn-ff")
#: Duplicates of crude optimisations.
_CRUDE: Final = DuplicateRule(energy=0.1)
#: GFN-FF minima that are kept beside a GFN2 ensemble.
_KEPT_FORCEFIELD: Final = 50


@dataclass(frozen=True, kw_only=True)
class ReferenceSettings:
    """Depth of the search.

    Attributes:
        level: Level of the final geometries and energies, one of ``LEVELS``.
        engine: Entry of ``refinement.engines.ENGINES``; ``auto`` takes what is installed.
        ewin: Energy window of the result, kcal/mol.
        starts_per_rotor: Starts per rotatable bond, twice that per flexible ring.
        min_starts: Starts at least.
        max_starts: Starts at most.
        md_runs: Metadynamics runs, at most the length of the ladder.
        md_ps: Length of each run, ps.
        forcefield_window: Window on the GFN-FF surface, kcal/mol.
        screen_window: Window of the GFN2 single points, kcal/mol.
        max_crude: Structures taken to the crude optimisation at most.
        max_final: Structures taken to the final optimisation at most.
        crossings: Rounds of crossing at most; they end when a round finds nothing new.
        children: Structures made in a round: for each minimum, at least, and at most.
    """

    level: str = "gfn2-xtb"
    engine: str = "auto"
    ewin: float = 6.0
    starts_per_rotor: int = 30
    min_starts: int = 60
    max_starts: int = 300
    md_runs: int = 4
    md_ps: float = 8.0
    forcefield_window: float = 14.0
    screen_window: float = 12.0
    max_crude: int = 150
    max_final: int = 100
    crossings: int = 3
    children: tuple[int, int, int] = (3, 30, 150)

    def __post_init__(self) -> None:
        if self.level not in LEVELS:
            raise InputError(f"level {self.level!r} is not one of {', '.join(LEVELS)}")
        if self.ewin <= 0 or self.min_starts < 1 or self.max_starts < self.min_starts:
            raise InputError("reference: ewin > 0 and 1 <= min_starts <= max_starts are required")
        if not 0 <= self.md_runs <= len(_LADDER):
            raise InputError(f"reference: md_runs must lie between 0 and {len(_LADDER)}")

    @classmethod
    def lean(cls, *, level: str = "gfn2-xtb", **changes: Any) -> "ReferenceSettings":
        """Training-set variant without crossing.

        GFN2-xTB: half the starts, two short runs, the 30 lowest conformers. GFN-FF: a fifth of the starts, one short
        run, the 50 lowest.
        """
        size: dict[str, Any] = {"starts_per_rotor": 15, "min_starts": 30, "max_starts": 150, "md_runs": 2}
        kept: dict[str, Any] = {"max_crude": 50, "max_final": 30}
        if level == "gfn-ff":
            size = {"starts_per_rotor": 6, "min_starts": 16, "max_starts": 40, "md_runs": 1}
            kept = {"max_final": 50}
        return cls(**{"level": level, "md_ps": 4.0, "crossings": 0, **size, **kept, **changes})

    @classmethod
    def thorough(cls, **changes: Any) -> "ReferenceSettings":
        """For flexible molecules, which the caps cut: four times as many structures, more rounds of crossing."""
        kept: dict[str, Any] = {"max_crude": 600, "max_final": 400, "crossings": 6, "children": (3, 30, 400)}
        return cls(**{**kept, **changes})


@dataclass(frozen=True, kw_only=True)
class ReferenceResult:
    """One ensemble and how it came about.

    Attributes:
        conformers: Rising energy; weights at 298.15 K contain the degeneracy.
        forcefield: The lowest GFN-FF minima before any GFN2 step, Å and kcal/mol: pre-training data for free.
        counts: Structures after each stage.
        cpu_seconds: CPU time of each stage, child processes included.
        truncated: Stages whose cap cut structures inside the window.
    """

    conformers: ConformerSet
    forcefield: tuple[np.ndarray, np.ndarray]
    counts: dict[str, int] = field(default_factory=dict)
    cpu_seconds: dict[str, float] = field(default_factory=dict)
    truncated: list[str] = field(default_factory=list)


class _Search:
    """State of one molecule's search: what every stage needs, and its books."""

    def __init__(self, molecule: Molecule, settings: ReferenceSettings, seed: int) -> None:
        self.molecule, self.settings, self.seed = molecule, settings, seed
        self.engine = ENGINES[choose_engine(settings.engine)](molecule)
        mol = self.engine.mol
        polar = [
            a.GetIdx()
            for a in mol.GetAtoms()
            if a.GetAtomicNum() > 1 or any(n.GetAtomicNum() not in (1, 6) for n in a.GetNeighbors())
        ]
        self.compared = np.array(polar, dtype=np.int32)
        self.group = symmetry_group(mol, atoms=self.compared)
        self.masses = atomic_masses(molecule)
        self.achiral = molecule.graph.achiral
        self.counts: dict[str, int] = {}
        self.cpu_seconds: dict[str, float] = {}
        self.truncated: list[str] = []
        self._clock = _cpu_seconds()
        #: Torsions of the minima crossed and of all children so far, degrees.
        self.tried = np.zeros((0, 0))

    def book(self, stage: str, count: int) -> None:
        now = _cpu_seconds()
        self.counts[stage] = count
        self.cpu_seconds[stage] = round(now - self._clock, 2)
        self._clock = now

    def minima(self, starts: np.ndarray, optimise: Optimise) -> tuple[np.ndarray, np.ndarray]:
        """Optimise each start; keep those whose bonds and stereo are still the molecule's."""
        done = [r for r in map(optimise, starts) if r is not None]
        positions = np.array([r[0] for r in done]).reshape(-1, len(self.engine.numbers), 3)
        energies = np.array([r[1] for r in done], dtype=np.float64)
        good = bonds_kept(positions, self.molecule.graph) & stereo_ok(positions, self.molecule.graph)
        return positions[good], energies[good]

    def prune(
        self,
        stage: str,
        pool: tuple[np.ndarray, np.ndarray],
        *,
        window: float,
        limit: int | None = None,
        rule: DuplicateRule | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Window, duplicates and cap, in rising energy."""
        positions, energies = pool
        if len(energies) == 0:
            self.book(stage, 0)
            return pool
        inside = energies <= energies.min() + window
        positions, energies = positions[inside], energies[inside]
        kept = unique_conformers(
            positions,
            energies,
            masses=self.masses,
            compared=self.compared,
            group=self.group,
            achiral=self.achiral,
            rule=rule or DuplicateRule(),
        )
        if limit is not None and len(kept) > limit:
            self.truncated.append(stage)
            kept = kept[:limit]
        self.book(stage, len(kept))
        return positions[kept], energies[kept]

    def cross(self, pool: tuple[np.ndarray, np.ndarray], turn: int) -> tuple[np.ndarray, np.ndarray]:
        """Add the GFN2-xTB minima that children of those in ``pool`` lead to.

        A child has the local geometry of one minimum and half of the torsions of another, or one or two torsions of its
        own. Its single-point energy is worth something, unlike that of a force-field geometry, and basins
        that the force field lacks can be reached.
        """
        settings, engine = self.settings, self.engine
        quartets = rotors(engine.mol)
        if len(pool[1]) == 0 or len(quartets) == 0:
            return pool
        rng = np.random.default_rng(random_seed(self.molecule, self.seed, f"crossing{turn}"))
        factor, least, most = settings.children
        angles = np.array([get_torsions(engine.mol, p, quartets) for p in pool[0]])
        self.tried = np.concatenate([self.tried.reshape(-1, len(quartets)), angles])
        wanted = min(most, max(least, factor * len(angles)))
        children: list[np.ndarray] = []
        for _ in range(_DRAWS * wanted):
            if len(children) == wanted:
                break
            parent = int(rng.integers(len(angles)))
            child = _child_torsions(angles, parent, rng)
            if not self._is_tried(child):
                self.tried = np.concatenate([self.tried, child[None]])
                children.append(set_torsions(engine.mol, pool[0][parent], quartets, child))
        starts = np.array(children).reshape(-1, len(engine.numbers), 3)
        starts = starts[bonds_kept(starts, self.molecule.graph) & stereo_ok(starts, self.molecule.graph)]
        lowest = pool[1].min()
        scores = [engine.energy(p) for p in starts]
        inside = np.array([e is not None and e < lowest + _CHILD_WINDOW for e in scores], dtype=bool)
        starts = starts[inside]
        crude = self.minima(starts, lambda p: engine.optimise(p, "crude"))
        # What a crude optimisation brings close to a known minimum is that minimum, and ends here.
        fresh = np.array(
            [
                e <= lowest + settings.ewin + _MARGIN and self._distance(p, pool[0]) > _KNOWN
                for p, e in zip(*crude, strict=True)
            ],
            dtype=bool,
        )
        crude = self.prune(
            f"children{turn + 1}", (crude[0][fresh], crude[1][fresh]), window=settings.ewin + _MARGIN, rule=_CRUDE
        )
        best = self.minima(crude[0], engine.optimise)
        joined = np.concatenate([pool[0], best[0]]), np.concatenate([pool[1], best[1]])
        return self.prune(f"crossing{turn + 1}", joined, window=settings.ewin)

    def _is_tried(self, torsions: np.ndarray) -> bool:
        """Whether a minimum, or a child made before, has all torsions within ``_NEAR`` of these, or is its image."""
        images = [torsions, -torsions] if self.achiral else [torsions]
        return any(bool((np.abs(_wrapped(self.tried - image)).max(1) < _NEAR).any()) for image in images)

    def _distance(self, positions: np.ndarray, others: np.ndarray) -> float:
        reduced = others[:, self.compared]
        probes = positions[None, self.compared]
        if self.achiral:
            probes = np.concatenate([probes, -probes])
        return float(group_rmsd_matrix(reduced, probes, self.group).min())


def _wrapped(degrees: np.ndarray) -> np.ndarray:
    return (degrees + 180.0) % 360.0 - 180.0


def _child_torsions(angles: np.ndarray, parent: int, rng: np.random.Generator) -> np.ndarray:
    """Torsions of a child: half of them another minimum's, or one or two turned, a little or anywhere."""
    other = int(rng.integers(len(angles)))
    n = angles.shape[1]
    child: np.ndarray = angles[parent].copy()
    if parent != other and rng.random() < _CROSSED:
        taken = np.flatnonzero(rng.random(n) < _CROSSED)
        child[taken] = angles[other][taken]
    else:
        taken = rng.choice(n, size=min(n, int(rng.integers(1, 3))), replace=False)
        child[taken] += rng.normal(0.0, _TURN, len(taken))
    return _wrapped(child)


def _cpu_seconds() -> float:
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def n_starts(mol: Chem.Mol, settings: ReferenceSettings) -> int:
    """ETKDG starts by flexibility: rotatable bonds, and rings with at least four saturated atoms."""
    rotors = rdMolDescriptors.CalcNumRotatableBonds(mol)
    flexible_rings = sum(
        sum(mol.GetAtomWithIdx(i).GetHybridization() == Chem.HybridizationType.SP3 for i in ring) >= 3
        for ring in mol.GetRingInfo().AtomRings()
    )
    wanted = settings.starts_per_rotor * (rotors + 2 * flexible_rings)
    return int(np.clip(wanted, settings.min_starts, settings.max_starts))


def forcefield_ensemble(search: _Search) -> tuple[np.ndarray, np.ndarray]:
    """Stages 1 to 6: unique GFN-FF minima (Å, kcal/mol) in rising energy."""
    settings = search.settings
    starts, _ = torsion_minima(
        search.molecule,
        n_starts(search.engine.mol, settings),
        seed=search.seed,
        settings=TorsionSettings(uniform=1.0, window=settings.forcefield_window, timeout=300),
    )
    search.book("starts", len(starts))
    engine = search.engine
    pool = search.minima(starts, engine.forcefield)
    window = settings.forcefield_window
    pool = search.prune(engine.forcefield_name, pool, window=window)
    if len(pool[0]) == 0:
        raise MoleculeError("reacted", "no force-field minimum keeps the bonds and stereo of the SMILES")
    snapshots = []
    for run in range(settings.md_runs):
        k_push, alpha = _LADDER[run]
        snapshots.append(
            engine.snapshots(
                pool[0][run % len(pool[0])],
                xtb.Metadynamics(k_push=k_push, alpha=alpha, picoseconds=settings.md_ps),
            )
        )
    if snapshots:
        frames = np.concatenate(snapshots)
        search.book("snapshots", len(frames))
        extra = search.minima(frames, engine.forcefield)
        pool = (np.concatenate([pool[0], extra[0]]), np.concatenate([pool[1], extra[1]]))
        pool = search.prune("metadynamics", pool, window=window)
    return pool


def reference_ensemble(
    molecule: Molecule,
    settings: ReferenceSettings,
    *,
    seed: int,
    watch: Watch = lambda stage, positions, energies: None,
) -> ReferenceResult:
    """Make the ensemble of one molecule.

    Args:
        molecule: One stereoisomer.
        settings: Depth of the search.
        seed: Of everything random.
        watch: Sees the minima after the optimisation and after each round of crossing.

    Raises:
        MoleculeError: ``embed``, ``stereo`` or ``reacted`` when a stage leaves nothing.
    """
    search = _Search(molecule, settings, seed)
    pool = forcefield_ensemble(search)
    if settings.level == "gfn-ff":
        pool = search.prune("final", pool, window=settings.ewin, limit=settings.max_final)
        return _result(search, pool, pool)
    forcefield = pool
    engine = search.engine
    energies = [engine.energy(p) for p in pool[0]]
    scored = [i for i, e in enumerate(energies) if e is not None]
    pool = (pool[0][scored], np.array([energies[i] for i in scored], dtype=np.float64))
    pool = search.prune("screen", pool, window=settings.screen_window, limit=settings.max_crude)
    pool = search.minima(pool[0], lambda p: engine.optimise(p, "crude"))
    pool = search.prune("crude", pool, window=settings.ewin + _MARGIN, limit=settings.max_final, rule=_CRUDE)
    pool = search.minima(pool[0], engine.optimise)
    pool = search.prune("final", pool, window=settings.ewin)
    watch("final", *pool)
    for turn in range(settings.crossings):
        known = len(pool[1])
        pool = search.cross(pool, turn)
        watch(f"crossing{turn + 1}", *pool)
        if len(pool[1]) == known:
            break
    if len(pool[0]) == 0:
        raise MoleculeError("reacted", "no GFN2-xTB minimum keeps the bonds and stereo of the SMILES")
    return _result(search, pool, forcefield)


def _result(
    search: _Search, pool: tuple[np.ndarray, np.ndarray], forcefield: tuple[np.ndarray, np.ndarray]
) -> ReferenceResult:
    positions, energies = pool
    relative = energies - energies[0]
    degeneracy = np.ones(len(relative))
    if search.achiral:  # a conformer that is not its own mirror image stands for two
        reduced = positions[:, search.compared]
        for index, conformer in enumerate(reduced):
            mirrored = group_rmsd_matrix(conformer[None], -conformer[None], search.group)
            degeneracy[index] = 2.0 if mirrored[0, 0] > DuplicateRule().rmsd else 1.0
    weights = degeneracy * np.exp(-relative / (GAS_CONSTANT * ROOM_TEMPERATURE))
    conformers = ConformerSet(
        molecule=search.molecule,
        positions=(positions - positions.mean(axis=1, keepdims=True)).astype(np.float32),
        energies=relative,
        weights=weights / weights.sum(),
        source_idx=np.arange(len(relative), dtype=np.int32),
        energy_method=search.settings.level,
    )
    return ReferenceResult(
        conformers=conformers,
        forcefield=(forcefield[0][:_KEPT_FORCEFIELD].astype(np.float32), forcefield[1][:_KEPT_FORCEFIELD]),
        counts=search.counts,
        cpu_seconds=search.cpu_seconds,
        truncated=search.truncated,
    )
