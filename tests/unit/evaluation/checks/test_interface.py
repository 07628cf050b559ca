"""Tests of ``conformergen.evaluation.checks.interface``."""

import pytest
from support import CHIRAL_ALKENE, check, scoring_task

from conformergen.errors import InputError
from conformergen.evaluation.checks import CHECKS, CheckSettings, run_check
from conformergen.evaluation.scoring import ScoringTask, score_molecule


def test_a_check_that_cannot_run_says_so(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *_: None)
    with pytest.raises(InputError, match="posebusters"):
        check("posebusters", scoring_task())


def test_molecules_without_samples_are_left_out_of_checks():
    task = scoring_task()
    empty = ScoringTask(name="x", smiles=CHIRAL_ALKENE, references=task.references, samples=[])
    assert run_check(CHECKS["stereo"], [score_molecule(empty)], CheckSettings()).molecules == []
