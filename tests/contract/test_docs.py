"""Commands and code of the documentation run as they stand."""

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from conformergen.cli import app

DOCS = Path(__file__).parents[2] / "docs"


def _recipes():
    """Commands of the console block marked as tested, in order."""
    text = (DOCS / "generate.md").read_text()
    block = re.search(r"<!-- tested: .*? -->\n```console\n(.*?)```", text, re.DOTALL)
    return [shlex.split(line[2:], comments=True)[1:] for line in block.group(1).splitlines()]


def test_recipes_run_in_order(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("molecules.smi").write_text("CC(=O)Nc1ccc(O)cc1 paracetamol\nC[C@H](N)C(=O)O alanine\nOCC(O)CO glycerol\n")
    for command in _recipes():
        done = CliRunner().invoke(app, command)
        assert done.exit_code == 0, (command, done.output)
        if "-o" in command:
            assert Path(command[command.index("-o") + 1]).stat().st_size > 0


def test_constraint_recipes_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("series.smi").write_text("CNC(=O)c1ccccc1C a\nCCNC(=O)c1ccc(F)cc1 b\n")
    CliRunner().invoke(app, ["generate", "c1ccccc1", "-n", "1", "--method", "etkdg", "-o", "scaffold.sdf"])
    lines = [
        x for x in (DOCS / "generate.md").read_text().splitlines() if x.startswith("$ conformergen generate series")
    ]
    assert len(lines) == 2
    for line in lines:
        done = CliRunner().invoke(app, shlex.split(line[2:])[1:])
        assert done.exit_code == 0, (line, done.output)


@pytest.mark.parametrize("block", re.findall(r"```python\n(.*?)```", (DOCS / "generate.md").read_text(), re.DOTALL))
def test_python_of_the_page_runs(block, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(block.replace("jobs=2", "jobs=1"), "generate.md", "exec"), {})  # noqa: S102  our own page
    assert Path("mol.html").stat().st_size > 100_000
