"""GFN2-xTB optimisation through the ``xtb`` program."""

from dataclasses import replace

import numpy as np
from rdkit import Chem

from conformergen.chem import to_mol
from conformergen.records import ConformerSet, Refined
from conformergen.refinement import xtb
from conformergen.units import HARTREE_TO_KCAL


def refine(conformers: ConformerSet, *, max_steps: int) -> Refined:
    """Optimise each conformer at level normal; one that xtb cannot optimise keeps its positions.

    Raises:
        InputError: Where ``xtb`` is not installed.
    """
    del max_steps  # xtb stops by its own criteria
    xtb.require()
    charge = Chem.GetFormalCharge(to_mol(conformers.molecule))
    numbers = conformers.molecule.graph.atomic_numbers
    positions = conformers.positions.astype(np.float64)
    energies = np.full(len(conformers), np.nan)
    for index, start in enumerate(positions):
        result = xtb.optimise(numbers, start, charge=charge, method="gfn2-xtb")
        if result is not None:
            positions[index], energies[index] = result[0], result[1] * HARTREE_TO_KCAL
    complete = bool(np.isfinite(energies).all())
    refined = replace(
        conformers,
        positions=positions.astype(np.float32),
        energies=energies if complete else None,
        energy_method="gfn2-xtb" if complete else "",
    )
    return Refined(conformers=refined, converged=np.isfinite(energies))
