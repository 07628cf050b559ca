"""Tests of ``conformergen.generation.rounds``."""

from dataclasses import replace

import numpy as np
from support import input_records, ranked_candidates, run_pipeline

import conformergen
from conformergen.errors import MoleculeError
from conformergen.generation.rounds import RoundSettings, ranked_energies, run_rounds
from conformergen.generation.samples import minimise_samples
from conformergen.generation.settings import GenerateSettings
from conformergen.records import Fallback


class _Serial:
    """Stands for worker processes; remembers what it was given."""

    def __init__(self, failing=False):
        self.given, self.failing = [], failing

    def map(self, function, items, *, timeout=600.0, ahead=None):
        items = list(items)
        self.given.append(items)
        return [MoleculeError("crash", "worker died") if self.failing else function(item) for item in items]


def test_fallbacks_reach_the_file_and_the_molecule(tmp_path, monkeypatch):
    from conformergen.generation import rounds

    # The network's first draw of every candidate is refused, and every draw of one.
    calls = []

    def picky(positions, graph):
        calls.append(1)
        return np.array([len(calls) > 1 and i > 0 for i in range(len(positions))])

    monkeypatch.setattr(rounds, "is_valid", picky)
    mol = conformergen.generate("CCCCO", n=24, steps=1)
    found = {c.GetProp("fallback") for c in mol.GetConformers()}
    assert found == {"redrawn", "start"}
    monkeypatch.undo()
    [conformers], _ = run_pipeline(GenerateSettings(n=2), input_records("CCCCO"))
    assert (conformers.fallback == Fallback.REGULAR).all()


def test_only_the_best_ranked_samples_enter_the_final_round(ranked_model):
    starts, workers = ranked_candidates(3), _Serial()
    [first] = run_rounds(ranked_model, [starts], RoundSettings(rounds=1, final_evaluations=1), workers=workers)
    assert workers.given == []
    assert len(first) == 12
    assert not np.array_equal(first.positions, starts.positions)
    best = np.sort(np.argsort(ranked_energies(ranked_model.ranker, first))[:3])
    [twice] = run_rounds(ranked_model, [starts], RoundSettings(rounds=2), workers=workers)
    np.testing.assert_array_equal(workers.given[0][0].positions, first.positions[best])
    assert len(twice) == 3
    again = replace(minimise_samples(workers.given[0][0]), n_final=3)
    [once] = run_rounds(ranked_model, [again], RoundSettings(rounds=1), workers=workers)
    np.testing.assert_allclose(twice.positions, once.positions, atol=1e-6)


def test_molecule_whose_minimisation_fails_keeps_its_samples(ranked_model):
    starts = ranked_candidates(12)
    [first] = run_rounds(ranked_model, [starts], RoundSettings(rounds=1, final_evaluations=1), workers=_Serial())
    [same] = run_rounds(ranked_model, [starts], RoundSettings(rounds=2), workers=_Serial(failing=True))
    np.testing.assert_array_equal(same.positions, first.positions)
