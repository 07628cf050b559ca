"""Tests of ``conformergen.reference.state``."""

import numpy as np

from conformergen.chem import embed, molecule_from_smiles
from conformergen.records import Minima
from conformergen.reference.settings import ReferenceSettings
from conformergen.reference.state import SearchState


def test_stages_are_counted_and_limits_recorded():
    molecule = molecule_from_smiles("CCCCO")
    state = SearchState(molecule, ReferenceSettings(engine="tblite"), 0)
    positions = embed(molecule, 6, seed=0).astype(np.float64)
    minima = Minima(positions=np.concatenate([positions, positions[:1]]), energies=np.r_[np.arange(6.0), 0.0])
    kept = state.prune("stage", minima, window=4.5, limit=3)
    assert len(kept) == 3
    assert state.stats.counts["stage"] == 3
    assert state.stats.truncated == ["stage"]
    assert np.all(np.diff(kept.energies) >= 0)


def test_failed_optimisations_and_broken_bonds_are_left_out():
    molecule = molecule_from_smiles("CCO")
    state = SearchState(molecule, ReferenceSettings(engine="tblite"), 0)
    starts = embed(molecule, 3, seed=0).astype(np.float64)
    results = iter([(starts[0], 1.0), None, (starts[2] * 3.0, 2.0)])
    found = state.optimise_all(starts, lambda start: next(results))
    assert found.energies.tolist() == [1.0]
