"""Tests of ``conformergen.reports.tables``."""

from dataclasses import replace

import pytest
from support import scoring_task

from conformergen.errors import InputError
from conformergen.evaluation.report import make_report
from conformergen.evaluation.scoring import score_molecule
from conformergen.reports.tables import comparison_table


def test_reports_are_compared_on_common_molecules():
    a, b = (make_report([score_molecule(scoring_task(n=n))], [], (0.75,), generated_by=[]) for n in (3, 4))
    mean = a.molecules[0].values["mat_r"] - b.molecules[0].values["mat_r"]
    assert f"mat_r {mean:+.3f}" in comparison_table({"a": a, "b": b})
    other = replace(b, molecules=[replace(m, name="other") for m in b.molecules])
    with pytest.raises(InputError, match="in common"):
        comparison_table({"a": a, "b": other})
