"""State of the search of one molecule: what every stage needs, and its statistics."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float64

from conformergen.chem import atomic_masses, symmetry_group
from conformergen.geometry.branch_bound import group_rmsd_matrix
from conformergen.geometry.duplicates import DuplicateRule, unique_conformers
from conformergen.geometry.graph import bonds_kept
from conformergen.geometry.stereo import stereo_ok
from conformergen.records import Minima, Molecule
from conformergen.reference.settings import ReferenceSettings
from conformergen.refinement.engines import ENGINES, choose_engine
from conformergen.runtime.cpu_time import cpu_seconds

#: A function from positions to a minimum and its energy, or None where the optimisation fails.
Optimise = Callable[[np.ndarray], tuple[np.ndarray, float] | None]


@dataclass
class SearchStats:
    """How an ensemble came about.

    Attributes:
        counts: Structures after each stage.
        cpu_seconds: CPU time of each stage, child processes included.
        truncated: Stages whose limit cut structures inside the window.
    """

    counts: dict[str, int] = field(default_factory=dict)
    cpu_seconds: dict[str, float] = field(default_factory=dict)
    truncated: list[str] = field(default_factory=list)


class SearchState:
    """One molecule during its search."""

    def __init__(self, molecule: Molecule, settings: ReferenceSettings, seed: int) -> None:
        self.molecule, self.settings, self.seed = molecule, settings, seed
        self.engine = ENGINES[choose_engine(settings.engine)](molecule)
        mol = self.engine.mol
        heavy_or_polar = [
            a.GetIdx()
            for a in mol.GetAtoms()
            if a.GetAtomicNum() > 1 or any(n.GetAtomicNum() not in (1, 6) for n in a.GetNeighbors())
        ]
        #: Atoms whose RMSD tells conformers apart: heavy atoms and polar hydrogens.
        self.compared = np.array(heavy_or_polar, dtype=np.int32)
        self.group = symmetry_group(mol, atoms=self.compared)
        self.masses = atomic_masses(molecule)
        self.achiral = molecule.graph.achiral
        self.stats = SearchStats()
        self._clock = cpu_seconds()

    def record(self, stage: str, count: int) -> None:
        """Enter the number of structures and the CPU time of a stage."""
        now = cpu_seconds()
        self.stats.counts[stage] = count
        self.stats.cpu_seconds[stage] = round(now - self._clock, 2)
        self._clock = now

    def optimise_all(self, starts: Float64[np.ndarray, "start atom 3"], optimise: Optimise) -> Minima:
        """Optimise each start; minima that have lost the bonds or the stereo of the molecule are left out."""
        done = [r for r in map(optimise, starts) if r is not None]
        minima = Minima(
            positions=np.array([r[0] for r in done]).reshape(-1, len(self.engine.numbers), 3),
            energies=np.array([r[1] for r in done], dtype=np.float64),
        )
        good = bonds_kept(minima.positions, self.molecule.graph) & stereo_ok(minima.positions, self.molecule.graph)
        return minima.select(good)

    def prune(
        self,
        stage: str,
        minima: Minima,
        *,
        window: float,
        limit: int | None = None,
        rule: DuplicateRule | None = None,
    ) -> Minima:
        """Unique minima inside the energy window (kcal/mol), by increasing energy and at most ``limit`` of them."""
        if len(minima) == 0:
            self.record(stage, 0)
            return minima
        minima = minima.select(minima.energies <= minima.energies.min() + window)
        kept = unique_conformers(
            minima.positions,
            minima.energies,
            masses=self.masses,
            compared=self.compared,
            group=self.group,
            achiral=self.achiral,
            rule=rule or DuplicateRule(),
        )
        if limit is not None and len(kept) > limit:
            self.stats.truncated.append(stage)
            kept = kept[:limit]
        self.record(stage, len(kept))
        return minima.select(kept)

    def distance(self, positions: Float64[np.ndarray, "atom 3"], others: Float64[np.ndarray, "conf atom 3"]) -> float:
        """Smallest RMSD (Å) of a structure, or of its mirror image where the molecule is achiral, from others."""
        probes = positions[None, self.compared]
        if self.achiral:
            probes = np.concatenate([probes, -probes])
        return float(group_rmsd_matrix(others[:, self.compared], probes, self.group).min())
