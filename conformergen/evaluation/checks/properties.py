"""Ensemble properties by GFN2-xTB: Boltzmann averages of energy, gap and dipole, and the lowest energy.

The protocol is that of torsional diffusion (Jing et al. 2022, arXiv 2206.01729, section 4.3) with the sizes of ET-Flow
(arXiv 2410.22388): at most 32 references as they are, against at most as many optimised samples. The table contains
medians of absolute errors over molecules.
"""

from typing import Final

import numpy as np

from conformergen.errors import MoleculeError
from conformergen.evaluation.checks.interface import Check, Checked, CheckSettings
from conformergen.evaluation.checks.strain import needs_engine
from conformergen.evaluation.scoring import Score
from conformergen.refinement.engines import ENGINES, Properties, choose_engine
from conformergen.units import GAS_CONSTANT, ROOM_TEMPERATURE

#: Largest number of conformers on each side.
_MAX_CONFORMERS: Final = 32


def _averages(conformers: list[Properties]) -> np.ndarray:
    """Boltzmann averages of energy, gap and dipole, and the lowest energy."""
    energies = np.array([c.energy for c in conformers])
    weights = np.exp(-(energies - energies.min()) / (GAS_CONSTANT * ROOM_TEMPERATURE))
    weights /= weights.sum()
    gaps, dipoles = np.array([c.gap for c in conformers]), np.array([c.dipole for c in conformers])
    return np.array([weights @ energies, weights @ gaps, weights @ dipoles, energies.min()])


def run(score: Score, settings: CheckSettings) -> Checked:
    """Absolute errors of one molecule.

    Raises:
        MoleculeError: ``crash`` when no calculation of one side succeeded.
    """
    aligned = score.aligned
    engine = ENGINES[choose_engine(settings.engine)](aligned.molecule)
    most = min(_MAX_CONFORMERS, settings.max_samples)
    references = [engine.properties(x) for x in aligned.references[:most].astype(np.float64)]
    relaxed = [
        engine.optimise(x) for x in aligned.samples[settings.spread(len(aligned.samples))[:most]].astype(np.float64)
    ]
    samples = [engine.properties(r[0]) for r in relaxed if r is not None]
    known = [[p for p in side if p is not None] for side in (references, samples)]
    if not all(known):
        raise MoleculeError("crash", "no GFN2-xTB calculation came to an end")
    errors = np.abs(_averages(known[0]) - _averages(known[1]))
    return Checked(molecule=dict(zip(UNITS, errors.tolist(), strict=True)))


#: Unit of each column.
UNITS = {"energy_error": "kcal/mol", "gap_error": "kcal/mol", "dipole_error": "D", "lowest_energy_error": "kcal/mol"}
#: Entry of ``CHECKS``.
CHECK = Check(run=run, units=UNITS, needs=needs_engine)
