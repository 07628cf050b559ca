"""Tests of ``conformergen.cli.generate``."""

from typer.testing import CliRunner

from conformergen.cli import app


def test_mistake_is_one_line_with_exit_status_2(tmp_path):
    done = CliRunner().invoke(app, ["generate", "CCO", "--steps", "0"])
    assert done.exit_code == 2, done.output
    assert "--steps" in done.output
    assert len(done.output.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_help_lists_the_options():
    done = CliRunner().invoke(app, ["generate", "--help"])
    assert done.exit_code == 0
    assert "--help" in done.output
