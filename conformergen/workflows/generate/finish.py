"""After sampling: refinement, verification, energies, and what is left out."""

from dataclasses import replace

import numpy as np

from conformergen.chem import heavy_atoms, symmetry_group, to_mol
from conformergen.geometry.branch_bound import group_rmsd_matrix
from conformergen.records import ConformerSet
from conformergen.refinement import REFINERS
from conformergen.units import GAS_CONSTANT, ROOM_TEMPERATURE
from conformergen.workflows.generate.settings import GenerateSettings
from conformergen.workflows.rounds import is_valid


def finish(conformers: ConformerSet, *, settings: GenerateSettings) -> ConformerSet:
    """Refine, put in order, window and prune one molecule's conformers.

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
        conformers = conformers.select(_apart(conformers, settings.rms))
    return with_weights(conformers)


def _refined(conformers: ConformerSet, settings: GenerateSettings) -> ConformerSet:
    refined = REFINERS[settings.refine](conformers, max_steps=settings.max_refine_steps).conformers
    good = is_valid(refined.positions, conformers.molecule)
    if good.all():
        return refined
    positions = np.where(good[:, None, None], refined.positions, conformers.positions)
    return replace(conformers, positions=positions, energies=None, energy_method="")


def _apart(conformers: ConformerSet, rms: float) -> np.ndarray:
    """Indices of conformers no closer than ``rms`` to one before them."""
    mol = to_mol(conformers.molecule)
    positions, group = conformers.positions[:, heavy_atoms(mol)], symmetry_group(mol)
    kept = [0]
    for index in range(1, len(positions)):
        if group_rmsd_matrix(positions[kept], positions[index : index + 1], group).min() >= rms:
            kept.append(index)
    return np.array(kept, dtype=np.int64)


def with_weights(conformers: ConformerSet) -> ConformerSet:
    """Energies relative to the lowest, and Boltzmann weights at 298.15 K."""
    if conformers.energies is None or len(conformers) == 0:
        return conformers
    relative = conformers.energies - conformers.energies.min()
    weights = np.exp(-relative / (GAS_CONSTANT * ROOM_TEMPERATURE))
    return replace(conformers, energies=relative, weights=weights / weights.sum())
