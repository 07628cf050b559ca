"""Which of the candidates are returned: an energy window, repeats where it holds too few, and mirror images."""

from dataclasses import dataclass
from math import ceil
from typing import Final

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64

from conformergen.chem import is_macrocycle
from conformergen.chem.embedding import random_seed
from conformergen.errors import InputError
from conformergen.records import Molecule


@dataclass(frozen=True, kw_only=True)
class SelectionSettings:
    """How conformers are selected by energy.

    Attributes:
        window: Energy window above the lowest candidate, kcal/mol.
        temperature: Repeats are drawn with a probability proportional to exp(-E / temperature); kcal/mol.
        min_unique_fraction: Fraction of the conformers asked for that shall be different ones. Where the window holds
            fewer, it is widened.
        widening: Largest factor by which the window is widened.
    """

    window: float
    temperature: float
    min_unique_fraction: float = 0.0
    widening: float = 3.0

    def __post_init__(self) -> None:
        if min(self.window, self.temperature) <= 0 or self.widening < 1 or not 0 <= self.min_unique_fraction <= 1:
            raise InputError(
                "selection: window and temperature > 0, widening >= 1 and a fraction of 0 to 1 are required"
            )


#: Selection by MMFF94s energies. Its temperature lies well above room temperature, because the order of conformers by a
#: force field is wrong by several kcal/mol.
BY_FORCE_FIELD: Final = SelectionSettings(window=6.0, temperature=4.0)
#: Selection by the ranker's energies, whose error is about 1 kcal/mol.
BY_RANKER: Final = SelectionSettings(window=4.0, temperature=1.0, min_unique_fraction=0.5)
#: Selection of macrocycles by the ranker, which was trained on none: the window is wide and not widened further.
BY_RANKER_MACROCYCLE: Final = SelectionSettings(window=10.0, temperature=1.0)


def ranked_selection(molecule: Molecule, window: float | None) -> SelectionSettings:
    """Settings for candidates ordered by the ranker; a window in kcal/mol that the user gave is not widened."""
    if window is not None:
        return SelectionSettings(window=window, temperature=BY_RANKER.temperature)
    return BY_RANKER_MACROCYCLE if is_macrocycle(molecule) else BY_RANKER


def n_unique(molecule: Molecule, n: int) -> int:
    """Conformers to make for ``n``: half of them for an achiral molecule, whose mirror images give the other half."""
    return ceil(n / 2) if molecule.graph.achiral else n


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Selection:
    """The conformers to return, each a candidate or its mirror image.

    Attributes:
        rows: Index of the candidate.
        mirrored: Whether its mirror image is meant.
    """

    rows: Int64[np.ndarray, " n"]
    mirrored: Bool[np.ndarray, " n"]

    def apply(self, positions: Float[np.ndarray, "conf atom 3"]) -> Float[np.ndarray, "n atom 3"]:
        """Positions of the selected conformers."""
        signs = np.where(self.mirrored, -1, 1).astype(positions.dtype)
        return positions[self.rows] * signs[:, None, None]


def select_with_mirrors(
    molecule: Molecule, energies: Float64[np.ndarray, " conf"], n: int, *, seed: int, settings: SelectionSettings
) -> Selection:
    """Select ``n`` conformers: first ``n_unique`` by ``select_by_window``, then the mirror images of these."""
    wanted = n_unique(molecule, n)
    rng = np.random.default_rng(random_seed(molecule, seed, "repeats"))
    rows = select_by_window(energies, wanted, settings, rng)
    return Selection(rows=np.resize(rows, n), mirrored=np.arange(n) >= wanted)


def select_by_window(
    energies: Float64[np.ndarray, " conf"], n: int, settings: SelectionSettings, rng: np.random.Generator
) -> Int64[np.ndarray, " n"]:
    """Indices of the lowest candidates inside the window, followed by repeats of them drawn by Boltzmann weight.

    Candidates without energies (NaN) are taken in turn.
    """
    if not np.isfinite(energies).all():
        return np.resize(np.arange(len(energies)), n)
    order = np.argsort(energies, kind="stable")
    lowest = energies.min()
    n_inside = np.count_nonzero(energies <= lowest + settings.window)
    n_widened = np.count_nonzero(energies <= lowest + settings.widening * settings.window)
    order = order[: min(n, max(n_inside, min(n_widened, ceil(settings.min_unique_fraction * n))))]
    weights = np.exp(-(energies[order] - lowest) / settings.temperature)
    return np.concatenate([order, rng.choice(order, size=n - len(order), p=weights / weights.sum())])
