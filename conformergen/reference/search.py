"""From one molecule to a complete GFN2-xTB ensemble.

The stages are: random torsion search, GFN-FF optimisation, GFN-FF metadynamics from the lowest minima, removal of
duplicates by CREGEN's criteria, GFN2-xTB single points, crude and final optimisation, crossing of the torsions of the
minima found, and a window of 6 kcal/mol. The order of the stages, the metadynamics ladder and the crossing follow CREST
(Pracht, Bohle, Grimme 2020, doi 10.1039/c9cp06869d).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from rdkit import Chem
from rdkit.Chem import rdMolDescriptors

from conformergen.errors import MoleculeError
from conformergen.geometry.branch_bound import group_rmsd_matrix
from conformergen.geometry.duplicates import DuplicateRule
from conformergen.records import ConformerSet, Minima, Molecule
from conformergen.reference.crossing import CRUDE_MARGIN, CRUDE_RULE, Crossing
from conformergen.reference.settings import METADYNAMICS_LADDER, ReferenceSettings
from conformergen.reference.state import SearchState, SearchStats
from conformergen.refinement import xtb
from conformergen.torsion import TorsionSearchSettings, torsion_minima
from conformergen.units import GAS_CONSTANT, ROOM_TEMPERATURE

#: Called with the name of a stage and its GFN2-xTB minima.
Watch = Callable[[str, Minima], None]
#: Number of GFN-FF minima that are kept beside a GFN2-xTB ensemble.
_KEPT_FORCEFIELD: Final = 50
#: Time limit of one call of RDKit's embedding, seconds of wall time.
_EMBED_TIMEOUT: Final = 300
#: Saturated atoms from which on a ring counts as flexible.
_FLEXIBLE_RING: Final = 3


@dataclass(frozen=True, kw_only=True)
class ReferenceResult:
    """One ensemble and how it came about.

    Attributes:
        conformers: By increasing energy; the weights at 298.15 K contain the degeneracy.
        forcefield: The lowest GFN-FF minima before any GFN2-xTB step, as additional data for pre-training.
        stats: Counts and CPU time of the stages.
    """

    conformers: ConformerSet
    forcefield: Minima
    stats: SearchStats


def reference_ensemble(
    molecule: Molecule,
    settings: ReferenceSettings,
    *,
    seed: int,
    watch: Watch = lambda stage, minima: None,
) -> ReferenceResult:
    """Make the ensemble of one molecule.

    Args:
        molecule: One stereoisomer.
        settings: Depth of the search.
        seed: Seed of all random numbers.
        watch: Receives the minima after the final optimisation and after each round of crossing.

    Raises:
        MoleculeError: ``embed``, ``stereo`` or ``reacted`` when a stage leaves nothing.
    """
    state = SearchState(molecule, settings, seed)
    forcefield = forcefield_minima(state)
    if settings.theory == "gfn-ff":
        minima = state.prune("final", forcefield, window=settings.ewin, limit=settings.max_final)
        return _result(state, minima, minima)
    engine = state.engine
    energies = [engine.energy(p) for p in forcefield.positions]
    scored = [i for i, e in enumerate(energies) if e is not None]
    minima = Minima(
        positions=forcefield.positions[scored], energies=np.array([energies[i] for i in scored], dtype=np.float64)
    )
    minima = state.prune("screen", minima, window=settings.screen_window, limit=settings.max_crude)
    minima = state.optimise_all(minima.positions, lambda p: engine.optimise(p, "crude"))
    window = settings.ewin + CRUDE_MARGIN
    minima = state.prune("crude", minima, window=window, limit=settings.max_final, rule=CRUDE_RULE)
    minima = state.optimise_all(minima.positions, engine.optimise)
    minima = state.prune("final", minima, window=settings.ewin)
    watch("final", minima)
    crossing = Crossing(state)
    for number in range(settings.crossings):
        known = len(minima)
        minima = crossing.next_round(minima, number)
        watch(f"crossing{number + 1}", minima)
        if len(minima) == known:
            break
    if len(minima) == 0:
        raise MoleculeError("reacted", "no GFN2-xTB minimum keeps the bonds and stereo of the SMILES")
    return _result(state, minima, forcefield)


def n_starts(mol: Chem.Mol, settings: ReferenceSettings) -> int:
    """Number of starts by flexibility: rotatable bonds, and rings with at least three saturated atoms."""
    n_rotatable_bonds = rdMolDescriptors.CalcNumRotatableBonds(mol)
    flexible_rings = sum(
        sum(mol.GetAtomWithIdx(i).GetHybridization() == Chem.HybridizationType.SP3 for i in ring) >= _FLEXIBLE_RING
        for ring in mol.GetRingInfo().AtomRings()
    )
    wanted = settings.starts_per_torsion * (n_rotatable_bonds + 2 * flexible_rings)
    return int(np.clip(wanted, settings.min_starts, settings.max_starts))


def forcefield_minima(state: SearchState) -> Minima:
    """Unique GFN-FF minima, by increasing energy: torsion search, optimisation and metadynamics.

    Raises:
        MoleculeError: ``reacted`` when no minimum keeps the bonds and the stereo of the molecule.
    """
    settings, engine, window = state.settings, state.engine, state.settings.forcefield_window
    starts = torsion_minima(
        state.molecule,
        n_starts(engine.mol, settings),
        seed=state.seed,
        settings=TorsionSearchSettings(uniform=1.0, window=window, timeout=_EMBED_TIMEOUT),
    )
    state.record("starts", len(starts))
    minima = state.optimise_all(starts.positions, engine.forcefield)
    minima = state.prune(engine.forcefield_name, minima, window=window)
    if len(minima) == 0:
        raise MoleculeError("reacted", "no force-field minimum keeps the bonds and stereo of the SMILES")
    snapshots = []
    for run in range(settings.md_runs):
        k_push, alpha = METADYNAMICS_LADDER[run]
        metadynamics = xtb.Metadynamics(k_push=k_push, alpha=alpha, picoseconds=settings.md_ps)
        snapshots.append(engine.snapshots(minima.positions[run % len(minima)], metadynamics))
    if snapshots:
        frames = np.concatenate(snapshots)
        state.record("snapshots", len(frames))
        minima = minima.join(state.optimise_all(frames, engine.forcefield))
        minima = state.prune("metadynamics", minima, window=window)
    return minima


def _result(state: SearchState, minima: Minima, forcefield: Minima) -> ReferenceResult:
    relative = minima.energies - minima.energies[0]
    degeneracy = np.ones(len(relative))
    if state.achiral:  # a conformer that is not its own mirror image stands for two
        for index, conformer in enumerate(minima.positions[:, state.compared]):
            mirrored = group_rmsd_matrix(conformer[None], -conformer[None], state.group)
            degeneracy[index] = 2.0 if mirrored[0, 0] > DuplicateRule().rmsd else 1.0
    weights = degeneracy * np.exp(-relative / (GAS_CONSTANT * ROOM_TEMPERATURE))
    centred = minima.positions - minima.positions.mean(axis=1, keepdims=True)
    conformers = ConformerSet(
        molecule=state.molecule,
        positions=centred.astype(np.float32),
        energies=relative,
        weights=weights / weights.sum(),
        source_idx=np.arange(len(relative), dtype=np.int32),
        energy_method=state.settings.theory,
    )
    kept = forcefield.select(np.arange(min(_KEPT_FORCEFIELD, len(forcefield))))
    return ReferenceResult(conformers=conformers, forcefield=kept, stats=state.stats)
