"""Tests of ``conformergen.evaluation.rules``."""

import numpy as np
import pytest

from conformergen.chem import molecule_from_smiles
from conformergen.evaluation.scoring import Score
from conformergen.evaluation.summary import molecule_values
from conformergen.records import AlignedEnsembles


def _score(rmsd, references=None, samples=None, n_dropped_references=0):
    rmsd = np.asarray(rmsd, dtype=np.float64)
    molecule = molecule_from_smiles("C")
    positions = [np.zeros((n, 5, 3), dtype=np.float32) for n in rmsd.shape]
    aligned = AlignedEnsembles(
        molecule=molecule, references=positions[0], samples=positions[1], n_dropped_references=n_dropped_references
    )
    return Score(
        name="m", smiles="C", rmsd=rmsd,
        reference_stereo=np.ones(rmsd.shape[0], bool) if references is None else np.array(references),
        sample_stereo=np.ones(rmsd.shape[1], bool) if samples is None else np.array(samples),
        aligned=aligned,
    )  # fmt: skip


def _value(score, metric, rule, threshold=0.5):
    return float(molecule_values([score], metric, threshold, rule=rule)[0])


def test_rules_differ_where_the_evaluators_do():
    exact = _score([[0.5, 0.9], [0.4, 0.2]])
    assert _value(exact, "cov_r", "rows") == 50.0
    assert np.isnan(_value(exact, "cov_r", "geodiff"))  # 2 samples for 2 references: short
    full = _score([[0.5, 0.9, 0.9, 0.9, 0.1], [0.4, 0.2, 0.9, 0.9, 0.9]])
    assert _value(full, "cov_r", "geodiff") == 100.0  # <=, and the fifth sample is not looked at
    assert _value(full, "cov_p", "geodiff") == 50.0
    assert np.isnan(_value(_score([[0.1] * 4], n_dropped_references=2), "cov_r", "geodiff"))
    none = _score(np.zeros((2, 0)))
    assert _value(none, "cov_r", "rows") == 0.0
    assert np.isnan(_value(none, "mat_r", "rows"))
    assert np.isnan(_value(none, "cov_r", "succeeded_only"))


def test_stereo_strict_bars_the_wrong_isomer_on_both_sides():
    score = _score([[0.1, 0.3], [0.2, 0.1], [0.1, 0.1]], references=[True, True, False], samples=[False, True])
    assert _value(score, "cov_p", "stereo_strict") == 50.0
    assert _value(score, "mat_p", "stereo_strict") == pytest.approx(0.1)
    assert _value(score, "mat_r", "stereo_strict") == pytest.approx(0.2)
    assert _value(score, "cov_r", "stereo_strict", 0.25) == 50.0
    nothing = _score([[0.1]], references=[False])
    assert np.isnan(_value(nothing, "cov_r", "stereo_strict"))
    wrong = _score([[0.1]], samples=[False])
    assert _value(wrong, "cov_r", "stereo_strict") == 0.0
    assert np.isnan(_value(wrong, "mat_r", "stereo_strict"))
