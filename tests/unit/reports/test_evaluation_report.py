"""Tests of ``conformergen.reports.evaluation_report``."""

import pytest
from support import scoring_task

from conformergen.evaluation.report import make_report
from conformergen.evaluation.scoring import score_molecule
from conformergen.reports.evaluation_report import write_html


def test_page_shows_the_worst_references_and_escapes_names(tmp_path):
    pytest.importorskip("matplotlib")
    pytest.importorskip("jinja2")
    scores = [score_molecule(scoring_task())]
    report = make_report(scores, [], (0.75,), generated_by=[])
    write_html(tmp_path / "r.html", {"<script>evil": report}, {"<script>evil": scores})
    page = (tmp_path / "r.html").read_text()
    assert "<script>evil" not in page
    assert 'src="http' not in page
    assert "$3Dmol.createViewer" in page
