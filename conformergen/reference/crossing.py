"""Crossing: new minima from recombined and rotated torsions of those found, on the GFN2-xTB surface itself.

A child has the local geometry of one minimum and half of the torsions of another, or one or two torsions of its own.
Unlike that of a force-field geometry, its single-point energy is meaningful, and basins that the force field lacks can
be reached. The idea follows CREST (Pracht, Bohle, Grimme 2020, doi 10.1039/c9cp06869d).
"""

from typing import Final

import numpy as np
from jaxtyping import Float64

from conformergen.chem import get_torsions, rotatable_torsions, set_torsions, torsion_periods
from conformergen.chem.embedding import random_seed
from conformergen.geometry.duplicates import DuplicateRule
from conformergen.geometry.graph import bonds_kept
from conformergen.geometry.stereo import stereo_ok
from conformergen.records import Minima
from conformergen.reference.state import SearchState
from conformergen.torsion.novelty import is_new

#: Fraction of children that are crossed, and fraction of the torsions that a crossed child takes from its second
#: parent.
_CROSSED: Final = 0.5
#: Standard deviation of the rotation of a torsion, degrees.
_ROTATION: Final = 70.0
#: Energy window of the single points of the children above the lowest minimum, kcal/mol.
_CHILD_WINDOW: Final = 15.0
#: A crude minimum closer than this to a known minimum is that minimum, Å.
_KNOWN_RMSD: Final = 0.25
#: Draws for each child that is made.
_DRAWS_PER_CHILD: Final = 20
#: Largest gain of a crude minimum in the final optimisation, kcal/mol.
CRUDE_MARGIN: Final = 1.5
#: When two crude minima are one.
CRUDE_RULE: Final = DuplicateRule(energy=0.1)


class Crossing:
    """Rounds of crossing of one molecule; remembers the torsions of all parents and children."""

    def __init__(self, state: SearchState) -> None:
        self._state = state
        mol = state.engine.mol
        self._quartets = rotatable_torsions(mol)
        self._periods = torsion_periods(mol, self._quartets)
        #: Torsions of the minima crossed and of all children so far, degrees.
        self._tried = np.zeros((0, len(self._quartets)))

    def next_round(self, minima: Minima, number: int) -> Minima:
        """The minima, and the new ones that their children lead to.

        Args:
            minima: GFN2-xTB minima found so far.
            number: Number of the round, from 0.
        """
        state, engine = self._state, self._state.engine
        if len(minima) == 0 or len(self._quartets) == 0:
            return minima
        starts = self._children(minima, number)
        starts = starts[bonds_kept(starts, state.molecule.graph) & stereo_ok(starts, state.molecule.graph)]
        lowest = minima.energies.min()
        scores = [engine.energy(p) for p in starts]
        inside = np.array([e is not None and e < lowest + _CHILD_WINDOW for e in scores], dtype=bool)
        crude = state.optimise_all(starts[inside], lambda p: engine.optimise(p, "crude"))
        limit = lowest + state.settings.ewin + CRUDE_MARGIN
        fresh = np.array(
            [
                e <= limit and state.distance(p, minima.positions) > _KNOWN_RMSD
                for p, e in zip(crude.positions, crude.energies, strict=True)
            ],
            dtype=bool,
        )
        window = state.settings.ewin + CRUDE_MARGIN
        crude = state.prune(f"children{number + 1}", crude.select(fresh), window=window, rule=CRUDE_RULE)
        found = state.optimise_all(crude.positions, engine.optimise)
        return state.prune(f"crossing{number + 1}", minima.join(found), window=state.settings.ewin)

    def _children(self, minima: Minima, number: int) -> Float64[np.ndarray, "child atom 3"]:
        """Structures with new torsions, Å."""
        state, mol = self._state, self._state.engine.mol
        rng = np.random.default_rng(random_seed(state.molecule, state.seed, f"crossing{number}"))
        per_minimum, least, most = state.settings.children
        angles = np.array([get_torsions(mol, p, self._quartets) for p in minima.positions])
        self._tried = np.concatenate([self._tried, angles])
        wanted = min(most, max(least, per_minimum * len(angles)))
        children: list[np.ndarray] = []
        for _ in range(_DRAWS_PER_CHILD * wanted):
            if len(children) == wanted:
                break
            parent = int(rng.integers(len(angles)))
            torsions = child_torsions(angles, parent, rng)
            if is_new(torsions, self._tried, self._periods, mirrored=state.achiral):
                self._tried = np.concatenate([self._tried, torsions[None]])
                children.append(set_torsions(mol, minima.positions[parent], self._quartets, torsions))
        return np.array(children).reshape(-1, len(state.engine.numbers), 3)


def child_torsions(
    angles: Float64[np.ndarray, "minimum torsion"], parent: int, rng: np.random.Generator
) -> Float64[np.ndarray, " torsion"]:
    """Torsions of a child in degrees: half of them from another minimum, or one or two rotated at random."""
    other = int(rng.integers(len(angles)))
    n = angles.shape[1]
    child: np.ndarray = angles[parent].copy()
    if parent != other and rng.random() < _CROSSED:
        taken = np.flatnonzero(rng.random(n) < _CROSSED)
        child[taken] = angles[other][taken]
    else:
        taken = rng.choice(n, size=min(n, int(rng.integers(1, 3))), replace=False)
        child[taken] += rng.normal(0.0, _ROTATION, len(taken))
    return (child + 180.0) % 360.0 - 180.0
