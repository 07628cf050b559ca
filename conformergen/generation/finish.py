"""After sampling: refinement, verification, energies, and pruning. This is the work of one worker process."""

from dataclasses import replace

import numpy as np

from conformergen.chem import atomic_masses, heavy_atoms, symmetry_group, to_mol
from conformergen.generation.samples import is_valid
from conformergen.generation.settings import GenerateSettings
from conformergen.geometry.duplicates import DuplicateRule, unique_conformers
from conformergen.records import ConformerSet
from conformergen.refinement import REFINERS
from conformergen.units import GAS_CONSTANT, ROOM_TEMPERATURE


def finish(conformers: ConformerSet, *, settings: GenerateSettings) -> ConformerSet:
    """Refine, sort, cut by energy window and prune the conformers of one molecule.

    A conformer whose bonds or stereo a refinement changes keeps its positions, and then no energies are given.
    """
    if settings.refine != "none":
        conformers = _refined(conformers, settings)
        if conformers.energies is not None:
            order = np.argsort(conformers.energies, kind="stable")
            if settings.ewin is not None:
                order = order[conformers.energies[order] <= conformers.energies.min() + settings.ewin]
            conformers = conformers.select(order)
    if settings.rms is not None:
        conformers = conformers.select(_unique(conformers, settings.rms))
    return with_weights(conformers)


def _refined(conformers: ConformerSet, settings: GenerateSettings) -> ConformerSet:
    refined = REFINERS[settings.refine](conformers, max_steps=settings.max_refine_steps).conformers
    good = is_valid(refined.positions, conformers.molecule.graph)
    if good.all():
        return refined
    positions = np.where(good[:, None, None], refined.positions, conformers.positions)
    return replace(conformers, positions=positions, energies=None, energy_method="")


def _unique(conformers: ConformerSet, rms: float) -> np.ndarray:
    """Indices of the conformers that are not closer than ``rms`` (Å) to one before them."""
    mol = to_mol(conformers.molecule)
    kept = unique_conformers(
        conformers.positions,
        np.zeros(len(conformers)),
        masses=atomic_masses(conformers.molecule),
        compared=heavy_atoms(mol),
        group=symmetry_group(mol),
        achiral=False,
        rule=DuplicateRule.by_rmsd(rms),
    )
    return np.array(kept, dtype=np.int64)


def with_weights(conformers: ConformerSet) -> ConformerSet:
    """Energies relative to the lowest, and Boltzmann weights at 298.15 K."""
    if conformers.energies is None or len(conformers) == 0:
        return conformers
    relative = conformers.energies - conformers.energies.min()
    weights = np.exp(-relative / (GAS_CONSTANT * ROOM_TEMPERATURE))
    return replace(conformers, energies=relative, weights=weights / weights.sum())
