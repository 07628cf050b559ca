"""Tests of ``conformergen.reports.evaluation_report``."""

import pytest
from support import input_records

from conformergen.commands.evaluate import evaluate
from conformergen.generation.output import generate_to
from conformergen.generation.settings import GenerateSettings

THREE = ("C[C@H](N)C(=O)O", "CCO", "F/C=C\\Cl")


def test_html_report_is_self_contained(tmp_path):
    pytest.importorskip("matplotlib")
    pytest.importorskip("jinja2")
    from conformergen.reports.evaluation_report import write_html

    generate_to(input_records(*THREE), str(tmp_path / "a.sdf"), GenerateSettings(n=2, method="etkdg"))
    result = evaluate(tmp_path / "a.sdf", tmp_path / "a.sdf")
    write_html(tmp_path / "r.html", {"<script>evil": result.result}, {"<script>evil": result.scores})
    text = (tmp_path / "r.html").read_text()
    assert "<script>evil" not in text
    assert 'src="http' not in text
    assert "$3Dmol.createViewer" in text
