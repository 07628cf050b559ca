"""Tests of ``conformergen.cli.preprocess``."""

from typer.testing import CliRunner

from conformergen.cli import app


def test_mistake_is_one_line_with_exit_status_2(tmp_path):
    done = CliRunner().invoke(app, ["preprocess", "nowhere", "-o", str(tmp_path / "out")])
    assert done.exit_code == 2, done.output
    assert "nowhere" in done.output
    assert len(done.output.strip().splitlines()) == 1


def test_help_lists_the_options():
    done = CliRunner().invoke(app, ["preprocess", "--help"])
    assert done.exit_code == 0
    assert "--help" in done.output
