"""The command line as a user meets it."""

import inspect
import json
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from rdkit import Chem
from typer.testing import CliRunner

import conformergen
from conformergen.chem import embed, mol_with_conformers, molecule_from_smiles
from conformergen.cli import app
from conformergen.cli.generate import generate as command
from conformergen.errors import InputError
from conformergen.generation.settings import GenerateSettings
from conformergen.io.formats import read_ensembles

ROOT = Path(__file__).parents[2]


DOORS = ([sys.executable, "-m", "conformergen"], [sys.executable, str(ROOT / "cli.py")])


@pytest.mark.parametrize("door", DOORS, ids=["module", "cli.py"])
def test_doors_are_one_program(door):
    done = subprocess.run([*door, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"conformergen {conformergen.__version__}"


def test_defaults_of_the_command_are_those_of_the_settings():
    """The command does not import the settings, so that its help is cheap."""
    offered = inspect.signature(command).parameters
    shared = [f for f in fields(GenerateSettings) if f.name in offered and f.name not in ("n", "per_reference")]
    assert {"start", "rounds", "seed"} <= {f.name for f in shared}
    assert {f.name: offered[f.name].default for f in shared} == {f.name: f.default for f in shared}


def test_help_imports_no_torch_and_is_cheap():
    code = (
        "import resource, sys\nsys.argv = ['conformergen', '--help']\n"
        "from conformergen.cli import app\n"
        "try:\n    app()\nexcept SystemExit:\n    pass\n"
        "assert not {'torch', 'rdkit', 'h5py', 'e3nn'} & set(sys.modules)\n"
        "used = resource.getrusage(resource.RUSAGE_SELF)\nassert used.ru_utime + used.ru_stime < 0.6, used\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_generate_and_evaluate_through_the_command_line(tmp_path):
    runner = CliRunner()
    source, out = tmp_path / "in.smi", tmp_path / "out.sdf"
    source.write_text("CCO ethanol\nC1CC broken\n")
    done = runner.invoke(app, ["generate", str(source), "-o", str(out), "-n", "2", "--method", "etkdg"])
    assert done.exit_code == 1
    assert '"reason": "parse"' in (tmp_path / "out.sdf.failures.jsonl").read_text()
    done = runner.invoke(app, ["evaluate", str(out), "--reference", str(out), "-o", str(tmp_path / "r.json")])
    assert done.exit_code == 0
    assert "1 molecules, 2 references, 2 samples" in done.stdout
    assert (tmp_path / "r.json").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["generate", "CCO", "--method", "nope"], 2, "not one of"),
        (["generate", "missing.smi"], 2, "no such file"),
        (["generate", "CCO", "-n", "zero"], 2, "-n"),
        (["generate", "CCO", "--torsion", "CCCC"], 2, "--torsion"),
        (["generate", "CCO", "--checkpoint", "nope"], 2, "neither a checkpoint folder"),
    ],
)
def test_users_mistakes_are_one_line_and_exit_2(arguments, code, text):
    done = subprocess.run([sys.executable, "-m", "conformergen", *arguments], capture_output=True, text=True)
    assert done.returncode == code
    assert text in done.stderr
    assert "Traceback" not in done.stderr


def test_own_xyz_of_several_molecules_is_read_back(tmp_path):
    """Two isomers of one formula, with and without energies: told apart by title and index."""
    source = tmp_path / "in.smi"
    source.write_text("CCCO propanol one\nCC(C)O two\n")
    for options in ([], ["--refine", "mmff94s"]):
        command = ["generate", str(source), "-n", "3", "--method", "etkdg", "-o", str(tmp_path / "a.xyz"), *options]
        assert CliRunner().invoke(app, command).exit_code == 0
        raws = read_ensembles(tmp_path / "a.xyz")
        assert [(r.name, Chem.CanonSmiles(r.smiles), len(r.conformers)) for r in raws] == [
            ("propanol one", "CCCO", 3),
            ("two", "CC(C)O", 3),
        ]


def test_failures_that_are_allowed_are_no_error(tmp_path):
    (tmp_path / "in.smi").write_text("CCO\nC(\n")
    command = ["generate", str(tmp_path / "in.smi"), "-n", "1", "--method", "etkdg", "-o", str(tmp_path / "o.sdf")]
    assert CliRunner().invoke(app, command).exit_code == 1
    assert CliRunner().invoke(app, [*command, "--max-failures", "1"]).exit_code == 0
    assert CliRunner().invoke(app, [*command, "--max-failures", "-1"]).exit_code == 2


@pytest.fixture(scope="module")
def core(tmp_path_factory):
    """A phenyl ring with its first side-chain atom, somewhere in space, as SDF."""
    molecule = molecule_from_smiles("Oc1ccccc1")
    mol = Chem.RemoveHs(mol_with_conformers(molecule, embed(molecule, 1, seed=3) + 20.0))
    path = tmp_path_factory.mktemp("core") / "core.sdf"
    with Chem.SDWriter(str(path)) as writer:
        writer.write(mol)
    return path, mol


def test_core_stays_where_the_template_has_it(core, tmp_path):
    path, template = core
    out = tmp_path / "a.sdf"
    command = [
        "generate",
        "CC(C)NCC(O)COc1ccc(CC(N)=O)cc1",
        "-n",
        "6",
        "--method",
        "etkdg+mmff94s",
        "--core",
        str(path),
    ]
    done = CliRunner().invoke(app, [*command, "-o", str(out)])
    assert done.exit_code == 0, done.output
    places = template.GetConformer().GetPositions()
    mols = list(Chem.SDMolSupplier(str(out)))
    assert len(mols) == 6
    for mol in mols:
        match = mol.GetSubstructMatch(template)
        np.testing.assert_allclose(mol.GetConformer().GetPositions()[list(match)], places, atol=1e-3)
    energies = [float(m.GetProp("energy_kcal")) for m in mols]
    assert energies == sorted(energies)
    for wrong in (["--method", "model"], ["--refine", "mmff94s"]):
        assert CliRunner().invoke(app, [*command, *wrong, "-o", str(out)]).exit_code == 2
    failed = CliRunner().invoke(app, ["generate", "CCCC", *command[2:], "-o", str(tmp_path / "b.sdf")])
    assert failed.exit_code == 1
    assert json.loads((tmp_path / "b.sdf.failures.jsonl").read_text())["reason"] == "domain"


def test_viewer_page_is_self_contained_and_escapes_names(tmp_path):
    source, page = tmp_path / "a.sdf", tmp_path / "a.html"
    (tmp_path / "in.smi").write_text("CCCCO </script><b>x\nC[C@H](N)C(=O)O two\n")
    for line in (
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
        done = CliRunner().invoke(app, line)
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
