"""Tests of ``conformergen.reports.training_report``."""

import shutil

import pytest

from conformergen.reports.training_report import REPORT, write_training_report


def test_report_of_a_run_has_curves_and_settings(tiny_run, tmp_path):
    pytest.importorskip("matplotlib")
    shutil.copytree(tiny_run, tmp_path / "run")
    (tmp_path / "run" / REPORT).unlink(missing_ok=True)
    write_training_report(tmp_path / "run")
    page = (tmp_path / "run" / REPORT).read_text()
    assert "Losses" in page
    assert "learning_rate" in page
    assert 'src="http' not in page


def test_run_without_log_lines_has_no_report(tmp_path):
    pytest.importorskip("matplotlib")
    write_training_report(tmp_path)
    assert not (tmp_path / REPORT).exists()
