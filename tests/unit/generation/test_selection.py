"""Tests of ``conformergen.generation.selection``."""

import numpy as np
import pytest

from conformergen.chem import embed, molecule_from_smiles
from conformergen.generation.selection import SelectionSettings, ranked_selection, select_by_window, select_with_mirrors


def test_window_of_a_macrocycle_is_wide_and_stays_so():
    small, large = (ranked_selection(molecule_from_smiles(s), None) for s in ("CCCCO", "O=C1CCCCCCCCCCO1"))
    assert small.window < large.window
    assert small.min_unique_fraction > large.min_unique_fraction == 0.0
    assert ranked_selection(molecule_from_smiles("CCCCO"), 7.0).window == 7.0


def test_completion_keeps_the_window_and_mirrors():
    molecule = molecule_from_smiles("NCCO")
    positions = embed(molecule, 3, seed=0).astype(np.float64)
    energies = np.array([4.0, 0.0, 99.0])
    selection = select_with_mirrors(
        molecule, energies, 6, seed=0, settings=SelectionSettings(window=5.0, temperature=4.0)
    )
    got, values = selection.apply(positions), energies[selection.rows]
    np.testing.assert_array_equal(got[:2], positions[[1, 0]])
    np.testing.assert_array_equal(got[3:], -got[:3])
    assert set(values) <= {0.0, 4.0}


@pytest.mark.parametrize(
    ("fraction", "kept"), [(0.0, {0, 1}), (0.25, {0, 1}), (0.5, {0, 1, 2, 3}), (1.0, {0, 1, 2, 3, 4})]
)
def test_a_fraction_of_what_is_selected_is_unique(fraction, kept):
    """From a window three times as wide, and never what lies beyond it."""
    energies = np.array([0.0, 1.0, 2.5, 4.0, 5.5, 6.5])
    settings = SelectionSettings(window=2.0, temperature=1.0, min_unique_fraction=fraction)
    rows = select_by_window(energies, 8, settings, np.random.default_rng(0))
    assert len(rows) == 8
    assert set(rows.tolist()) == kept
