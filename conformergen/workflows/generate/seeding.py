"""From one input to seed conformers, or to the minima of a search: the work of one worker process."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from conformergen.chem import (
    EmbedSettings,
    TorsionSettings,
    distinct,
    embed,
    heavy_atoms,
    largest_fragment,
    n_rotors,
    symmetry_group,
    to_mol,
    torsion_minima,
    torsion_search,
)
from conformergen.chem.constraints import constrained_conformers
from conformergen.chem.torsion import DRAWN
from conformergen.datasets.inputs import InputRecord
from conformergen.errors import MoleculeError
from conformergen.geometry.duplicates import DuplicateRule, farthest_first
from conformergen.records import ConformerSet, Molecule
from conformergen.storage import fault_point
from conformergen.workflows.generate.settings import GenerateSettings
from conformergen.workflows.isomers import isomers
from conformergen.workflows.reference import ReferenceSettings, reference_ensemble

#: Window above the lowest minimum, kcal/mol, and number of minima kept of a search.
_SEARCH_WINDOW: Final = 14.0
_MAX_MINIMA: Final = 1000
#: Conformers that minima are made for at least, where a ranker picks.
_MIN_RANKED: Final = 4
#: Candidates for a ranker and a network: torsions pulled back to where GFN2-xTB minima have them, and a wide window,
#: because MMFF94s misjudges conformers by several kcal/mol. What is within .2 Å is on its way to one GFN2-xTB minimum.
#: Iterations to convergence: the ranker reads the energies.
CANDIDATES: Final = TorsionSettings(
    pool=1, window=40.0, hold=DRAWN, max_steps=800, same=DuplicateRule(energy_rmsd=3.0, rmsd=0.2)
)


def n_candidates(molecule: Molecule, n: int, *, pool: int) -> int:
    """Minima to make where a ranker picks ``n``: even a few are the low ones of some, not the first found."""
    return pool * max(_MIN_RANKED, distinct(molecule, n))


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Seeded:
    """One input after the worker processes: a set of seed conformers for each of its isomers."""

    record: InputRecord
    sets: list[ConformerSet]
    n: int


def prepare_seeds(record: InputRecord, *, settings: GenerateSettings, seeder: str, ranked: bool) -> Seeded:
    """Parse one input, settle its stereo and make its seeds, or candidates for a ranker.

    Raises:
        MoleculeError: With the reason why there is no seed.
    """

    def seeds(molecule: Molecule, n: int) -> ConformerSet:
        if settings.constraints is not None:
            held = constrained_conformers(molecule, n, seed=settings.seed, constraints=settings.constraints)
            return _with_energies(molecule, *held)
        rungs = {0}
        if seeder == "torsion+mmff94s" and ranked:
            candidates = n_candidates(molecule, n, pool=settings.pool)
            found = torsion_minima(molecule, candidates, seed=settings.seed, settings=CANDIDATES, note=rungs.add)
        elif seeder == "torsion+mmff94s":
            search = TorsionSettings(pool=settings.pool, window=settings.ewin or TorsionSettings.window)
            found = torsion_search(molecule, n, seed=settings.seed, settings=search, note=rungs.add)
        else:
            embedding = EmbedSettings(mmff94s=seeder == "etkdg+mmff94s")
            positions = embed(molecule, n, seed=settings.seed, settings=embedding, note=rungs.add)
            found = positions.astype(np.float64), np.full(len(positions), np.nan)
        made = _with_energies(molecule, *found)
        # Minima of a search have no embedding of their own: the molecule's lowest rung is that of all its conformers.
        return replace(made, rungs=np.full(len(made), max(rungs), dtype=np.uint8))

    return _prepare(record, settings, seeds)


def _with_energies(molecule: Molecule, positions: np.ndarray, energies: np.ndarray) -> ConformerSet:
    known = bool(np.isfinite(energies).all())
    return ConformerSet(
        molecule=molecule,
        positions=positions.astype(np.float32),
        energies=energies if known else None,
        energy_method="mmff94s" if known else "",
        rungs=np.zeros(len(positions), dtype=np.uint8),
    )


def search_minima(record: InputRecord, *, settings: GenerateSettings) -> Seeded:
    """GFN-FF minima of one input, within 14 kcal/mol of the lowest; fewer than n where there are no more.

    Raises:
        MoleculeError: With the reason why there is none.
    """

    def minima(molecule: Molecule, n: int) -> ConformerSet:
        search = ReferenceSettings(
            level="gfn-ff", engine="xtb", ewin=settings.ewin or _SEARCH_WINDOW, max_final=_MAX_MINIMA
        )
        found = reference_ensemble(molecule, search, seed=settings.seed).conformers
        picked = np.arange(min(n, len(found)))
        if settings.select == "diverse":
            mol = to_mol(molecule)
            heavy = heavy_atoms(mol)
            picked = farthest_first(found.positions[:, heavy], symmetry_group(mol), n)
        assert found.energies is not None
        return ConformerSet(
            molecule=molecule,
            positions=found.positions[picked],
            energies=found.energies[picked],
            energy_method="gfn-ff",
            rungs=np.zeros(len(picked), dtype=np.uint8),
        )

    return _prepare(record, settings, minima)


def _prepare(record: InputRecord, settings: GenerateSettings, make: Callable[[Molecule, int], ConformerSet]) -> Seeded:
    fault_point(f"molecule.{record.name}")
    if not record.smiles:
        raise MoleculeError("parse", "unreadable input record")
    smiles = largest_fragment(record.smiles) if settings.fragments == "largest" else record.smiles
    species = [
        replace(molecule, source_smiles=record.smiles)
        for molecule in isomers(
            smiles, record.name, policy=settings.stereo, seed=settings.seed, max_atoms=settings.max_atoms
        )
    ]
    n = settings.count(record.n_references, n_rotors(species[0].smiles))
    return Seeded(record=record, sets=[make(molecule, n) for molecule in species], n=n)
