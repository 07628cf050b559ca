"""Tests of ``conformergen.commands.evaluate``."""

import csv
import json
import pickle
import re
from dataclasses import replace

import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem import rdMolAlign
from support import CHIRAL_ALKENE, EXCHANGED, etflow_items, geodiff_items
from typer.testing import CliRunner

from conformergen.chem import embed, mol_with_conformers, molecule_from_smiles
from conformergen.cli import app
from conformergen.commands.evaluate import evaluate
from conformergen.errors import InputError
from conformergen.evaluation.metrics import METRICS
from conformergen.evaluation.report import read_report
from conformergen.evaluation.rules import RULES
from conformergen.reports.tables import comparison_table


@pytest.fixture(scope="module")
def plain(exchanged, tmp_path_factory):
    """The same as two SDF files, and their scores."""
    folder = tmp_path_factory.mktemp("plain")
    for side, name in enumerate(("ref", "gen")):
        with Chem.SDWriter(str(folder / f"{name}.sdf")) as writer:
            for smiles, pair in zip(EXCHANGED, exchanged, strict=True):
                pair[side].SetProp("_Name", smiles)
                pair[side].SetProp("EXCHANGED", smiles)
                for conformer in pair[side].GetConformers():
                    writer.write(pair[side], confId=conformer.GetId())
    return folder, evaluate(folder / "gen.sdf", folder / "ref.sdf").report


def test_checks_reach_report_and_page(tmp_path):
    runner, out = CliRunner(), tmp_path
    for name, seed in (("ref", "1"), ("gen", "2")):
        made = runner.invoke(
            app,
            ["generate", CHIRAL_ALKENE, "-n", "3", "--method", "etkdg", "--seed", seed, "-o", str(out / f"{name}.sdf")],
        )
        assert made.exit_code == 0, made.output
    command = ["evaluate", str(out / "gen.sdf"), "--reference", str(out / "ref.sdf")]
    done = runner.invoke(app, [*command, "--checks", "stereo,rings", "--html", str(out / "r.html"), "--strict"])
    assert done.exit_code == 0, done.output
    assert "as_requested" in done.output
    page = (out / "r.html").read_text()
    assert "Check: rings" in page
    assert not re.search(r'(src|href)="http', page)  # works offline
    assert runner.invoke(app, [*command, "--checks", "spelling"]).exit_code == 2
    assert runner.invoke(app, [*command, "--checks", "stereo", "--check-samples", "0"]).exit_code == 2


def test_pickles_of_the_published_evaluators_score_alike(sample_files):
    """The reader's process takes them apart; the scores are those of the SDF."""
    by_suffix = {
        suffix: evaluate(sample_files / f"a.{suffix}", sample_files / f"ref.{suffix}").report
        for suffix in ("sdf", "pkl")
    }
    for metric in METRICS:
        values = [by_suffix[s]["rows"]["0.75"][metric]["mean"] for s in ("sdf", "pkl")]
        assert values[0] == pytest.approx(values[1], abs=1e-3)  # an SDF holds four decimals
    assert set(by_suffix["pkl"]) >= set(RULES)


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_files_of_geodiff_and_etflow_score_alike(exchanged, plain, tmp_path, protocol):
    """Samples and references come from one file, without torch or PyG in the reader's process."""
    for name, items in (("geodiff", geodiff_items(exchanged)), ("etflow", etflow_items(exchanged))):
        path = tmp_path / f"{name}.pkl"
        path.write_bytes(pickle.dumps(items, protocol=protocol))
        report = evaluate(path).report
        assert (report["n_references"], report["n_samples"], report["n_scored"]) == (6, 12, 2)
        for metric in METRICS:
            expected = plain[1]["rows"]["0.75"][metric]["mean"]
            assert report["rows"]["0.75"][metric]["mean"] == pytest.approx(expected, abs=1e-3)


def test_exports_are_what_the_evaluators_read(plain, tmp_path):
    folder, report = plain
    command = ["evaluate", str(folder / "gen.sdf"), "--reference", str(folder / "ref.sdf")]
    for name in ("geodiff", "etflow"):
        path = tmp_path / f"{name}.pkl"
        done = CliRunner().invoke(app, [*command, "--export", f"{name}={path}"])
        assert done.exit_code == 0, done.output
        again = evaluate(path).report
        assert again["rows"]["0.75"]["mat_r"]["mean"] == pytest.approx(
            report["rows"]["0.75"]["mat_r"]["mean"], abs=1e-5
        )
    items = pickle.loads((tmp_path / "geodiff.pkl").read_bytes())  # noqa: S301  written above
    n = items[0].rdmol.GetNumAtoms()
    assert items[0].pos_gen.shape == (6 * n, 3)
    assert items[0].pos_ref.shape == (3 * n, 3)
    items = pickle.loads((tmp_path / "etflow.pkl").read_bytes())  # noqa: S301  written above
    assert items[0].pos_gen.shape == (6, n, 3)
    assert CliRunner().invoke(app, [*command, "--export", "xyz"]).exit_code == 2
    assert CliRunner().invoke(app, command[:2]).exit_code == 2


def test_cov_and_mat_are_the_published_evaluators(tmp_path):
    """Line by line after torsional diffusion's protocol, one molecule failed."""
    molecules = [molecule_from_smiles(s, name=f"m{i}") for i, s in enumerate(("CCCCO", "CC(C)CCC(=O)O", "CCOCC"))]
    for path, seed, chosen in ((tmp_path / "ref.sdf", 1, molecules), (tmp_path / "gen.sdf", 2, molecules[:2])):
        with Chem.SDWriter(str(path)) as writer:
            for molecule in chosen:
                mol = mol_with_conformers(molecule, embed(molecule, 5, seed=seed))
                mol.SetProp("_Name", molecule.name)
                mol.SetProp("THREE", molecule.smiles)
                for conformer in mol.GetConformers():
                    writer.write(mol, confId=conformer.GetId())
    report = evaluate(tmp_path / "gen.sdf", tmp_path / "ref.sdf").report
    expected = {name: [] for name in METRICS}
    for molecule in molecules[:2]:
        ref = Chem.RemoveHs(mol_with_conformers(molecule, embed(molecule, 5, seed=1)))
        gen = Chem.RemoveHs(mol_with_conformers(molecule, embed(molecule, 5, seed=2)))
        rmsd = np.array(
            [
                [rdMolAlign.GetBestRMS(Chem.Mol(gen, confId=j), Chem.Mol(ref, confId=i)) for j in range(5)]
                for i in range(5)
            ]
        )
        expected["cov_r"].append(100.0 * (rmsd.min(1) < 0.75).mean())
        expected["cov_p"].append(100.0 * (rmsd.min(0) < 0.75).mean())
        expected["mat_r"].append(rmsd.min(1).mean())
        expected["mat_p"].append(rmsd.min(0).mean())
    assert report["n_failed"] == 1
    for name in METRICS:
        values = expected[name] + ([0.0] if name.startswith("cov") else [])
        assert report["rows"]["0.75"][name]["mean"] == pytest.approx(np.mean(values), abs=1e-4)
        assert report["rows"]["0.75"][name]["median"] == pytest.approx(np.median(values), abs=1e-4)
        assert report["succeeded_only"]["0.75"][name]["mean"] == pytest.approx(np.mean(expected[name]), abs=1e-4)
    assert json.loads(json.dumps(report))["schema"] == 3


def test_reports_are_compared_by_molecule(sample_files, tmp_path):
    runner = CliRunner()
    for name in ("a", "b"):
        command = ["evaluate", str(sample_files / f"{name}.sdf"), "--reference", str(sample_files / "ref.sdf")]
        done = runner.invoke(app, [*command, "-o", str(tmp_path / f"{name}.json"), "--csv", str(tmp_path / "m.csv")])
        assert done.exit_code == 0, done.output
    with (tmp_path / "m.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {r["name"] for r in rows} == {"CCCCO", "C[C@H](N)CC"}
    done = runner.invoke(app, ["evaluate", "--compare", str(tmp_path / "a.json"), str(tmp_path / "b.json")])
    assert done.exit_code == 0, done.output
    a, b = (read_report(tmp_path / f"{name}.json") for name in ("a", "b"))
    mean = np.mean([x.values["mat_r"] - y.values["mat_r"] for x, y in zip(a.molecules, b.molecules, strict=True)])
    assert f"mat_r {mean:+.3f}" in done.output
    b = replace(b, molecules=[replace(m, name="other") for m in b.molecules])
    with pytest.raises(InputError, match="in common"):
        comparison_table({"a": a, "b": b})
    (tmp_path / "no.json").write_text(json.dumps({"schema": 99}))
    with pytest.raises(InputError, match="schema"):
        read_report(tmp_path / "no.json")
