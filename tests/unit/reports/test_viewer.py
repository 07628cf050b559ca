"""Tests of ``conformergen.reports.viewer``."""

import json

import pytest
from rdkit import Chem
from typer.testing import CliRunner

import conformergen
from conformergen.cli import app
from conformergen.errors import InputError


def test_viewer_page_is_self_contained_and_escapes_names(tmp_path):
    source, page = tmp_path / "a.sdf", tmp_path / "a.html"
    (tmp_path / "in.smi").write_text("CCCCO </script><b>x\nC[C@H](N)C(=O)O two\n")
    for command in (
        [
            "generate",
            str(tmp_path / "in.smi"),
            "-n",
            "3",
            "--method",
            "etkdg",
            "--refine",
            "mmff94s",
            "-o",
            str(source),
        ],
        ["view", str(source), "-o", str(page)],
    ):
        done = CliRunner().invoke(app, command)
        assert done.exit_code == 0, done.output
    text = page.read_text()
    assert "<b>x" not in text
    assert 'src="http' not in text
    data = json.loads(text.split("const molecules = ")[1].split(";\n")[0])
    assert [len(m["blocks"]) for m in data] == [3, 3]
    assert len(data[0]["energies"]) == 3
    assert len(data[0]["torsions"][0]) == len(data[0]["torsion_names"]) > 0
    assert CliRunner().invoke(app, ["view", str(tmp_path / "none.sdf"), "-o", str(page)]).exit_code == 2
    mol = conformergen.generate("CCO", n=2)
    assert "iframe" in conformergen.view(mol)._repr_html_()
    with pytest.raises(InputError, match="no conformers"):
        conformergen.view(Chem.MolFromSmiles("CCO"))
