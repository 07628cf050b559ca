"""Tests of ``conformergen.evaluation.report``."""

import json
from dataclasses import replace

import pytest
from support import scoring_task

from conformergen.errors import InputError
from conformergen.evaluation.report import SCHEMA, THRESHOLDS, make_report, read_report
from conformergen.evaluation.scoring import score_molecule


@pytest.fixture(scope="module")
def report():
    return make_report(
        [score_molecule(scoring_task())], [], THRESHOLDS, n_unused_generated=2, generated_by=["x"], checks={}
    )


def test_report_survives_its_file(report, tmp_path):
    path = tmp_path / "r.json"
    path.write_text(json.dumps(report.to_json()))
    again = read_report(path)
    assert {name: row.mean for name, row in again.main.items()} == {n: row.mean for n, row in report.main.items()}
    assert [m.values for m in again.molecules] == [m.values for m in report.molecules]
    assert (again.n_unused_generated, list(again.generated_by)) == (2, ["x"])


def test_reports_of_earlier_versions_are_read(report, tmp_path):
    values = report.to_json()
    assert values["schema"] == SCHEMA == 3
    values["schema"] = 2
    for molecule in values["molecules"]:
        molecule["rotors"] = molecule.pop("n_rotatable_bonds")
    path = tmp_path / "old.json"
    path.write_text(json.dumps(values))
    assert read_report(path).molecules[0].n_rotatable_bonds == report.molecules[0].n_rotatable_bonds
    path.write_text(json.dumps({"schema": 99}))
    with pytest.raises(InputError, match="schema"):
        read_report(path)


def test_counts_are_sums_over_molecules(report):
    assert (report.n_references, report.n_samples, report.n_failed) == (4, 4, 0)
    doubled = replace(report, molecules=[*report.molecules, *report.molecules])
    assert doubled.n_samples == 8
