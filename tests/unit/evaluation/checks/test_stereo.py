"""Tests of ``conformergen.evaluation.checks.stereo``."""

import numpy as np
from support import CHIRAL_ALKENE, check, scoring_task

from conformergen.evaluation.scoring import ScoringTask


def test_stereo_sees_one_wrong_centre_and_nothing_else():
    good = check("stereo", scoring_task())["columns"]
    assert good["as_requested"] == {"passes_percent": 100.0, "n": 4}
    mirrored = check("stereo", scoring_task(change=lambda x, m: np.concatenate([x[:2], -x[2:]])))["columns"]
    assert mirrored["as_requested"]["passes_percent"] == 50.0
    assert mirrored["double_bonds"]["passes_percent"] == 100.0  # a mirror image keeps E and Z
    cis = ScoringTask(
        name="c",
        smiles=CHIRAL_ALKENE,
        references=scoring_task().references,
        samples=scoring_task(CHIRAL_ALKENE.replace("/C1", "\\C1")).samples,
    )
    wrong = check("stereo", cis)["columns"]
    assert wrong["double_bonds"]["passes_percent"] == 0.0
    assert wrong["centres"]["passes_percent"] == 100.0
