"""Rules, readers of results and comparison_table of reports."""

import csv
import json
import pickle
from dataclasses import replace

import numpy as np
import pytest
from rdkit import Chem
from typer.testing import CliRunner

from conformergen.chem import embed, mol_with_conformers, molecule_from_smiles
from conformergen.cli import app
from conformergen.commands.evaluate import evaluate
from conformergen.errors import InputError
from conformergen.evaluation.metrics import METRICS
from conformergen.evaluation.report import read_report
from conformergen.evaluation.rules import RULES
from conformergen.evaluation.scoring import Score
from conformergen.evaluation.summary import molecule_values, paired
from conformergen.io.formats import read_ensembles
from conformergen.records import AlignedEnsembles
from conformergen.reports.tables import comparison_table


def _score(rmsd, references=None, samples=None, n_dropped_references=0):
    rmsd = np.asarray(rmsd, dtype=np.float64)
    molecule = molecule_from_smiles("C")
    positions = [np.zeros((n, 5, 3), dtype=np.float32) for n in rmsd.shape]
    aligned = AlignedEnsembles(
        molecule=molecule, references=positions[0], samples=positions[1], n_dropped_references=n_dropped_references
    )
    return Score(
        name="m", smiles="C", rmsd=rmsd,
        reference_stereo=np.ones(rmsd.shape[0], bool) if references is None else np.array(references),
        sample_stereo=np.ones(rmsd.shape[1], bool) if samples is None else np.array(samples),
        aligned=aligned,
    )  # fmt: skip


def _value(score, metric, rule, threshold=0.5):
    return float(molecule_values([score], metric, threshold, rule=rule)[0])


def test_rules_differ_where_the_evaluators_do():
    exact = _score([[0.5, 0.9], [0.4, 0.2]])
    assert _value(exact, "cov_r", "rows") == 50.0
    assert np.isnan(_value(exact, "cov_r", "geodiff"))  # 2 samples for 2 references: short
    full = _score([[0.5, 0.9, 0.9, 0.9, 0.1], [0.4, 0.2, 0.9, 0.9, 0.9]])
    assert _value(full, "cov_r", "geodiff") == 100.0  # <=, and the fifth sample is not looked at
    assert _value(full, "cov_p", "geodiff") == 50.0
    assert np.isnan(_value(_score([[0.1] * 4], n_dropped_references=2), "cov_r", "geodiff"))
    none = _score(np.zeros((2, 0)))
    assert _value(none, "cov_r", "rows") == 0.0
    assert np.isnan(_value(none, "mat_r", "rows"))
    assert np.isnan(_value(none, "cov_r", "succeeded_only"))


def test_stereo_strict_bars_the_wrong_isomer_on_both_sides():
    score = _score([[0.1, 0.3], [0.2, 0.1], [0.1, 0.1]], references=[True, True, False], samples=[False, True])
    assert _value(score, "cov_p", "stereo_strict") == 50.0
    assert _value(score, "mat_p", "stereo_strict") == pytest.approx(0.1)
    assert _value(score, "mat_r", "stereo_strict") == pytest.approx(0.2)
    assert _value(score, "cov_r", "stereo_strict", 0.25) == 50.0
    nothing = _score([[0.1]], references=[False])
    assert np.isnan(_value(nothing, "cov_r", "stereo_strict"))
    wrong = _score([[0.1]], samples=[False])
    assert _value(wrong, "cov_r", "stereo_strict") == 0.0
    assert np.isnan(_value(wrong, "mat_r", "stereo_strict"))


def test_paired_difference_ignores_what_one_side_lacks():
    result = paired([1.0, 2.0, float("nan"), 4.0], [0.0, 1.0, 0.0, 3.0])
    assert (result.mean, result.low, result.high, result.n) == (1.0, 1.0, 1.0, 3)


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """References and two sets of samples of two molecules, as SDF and as pickle."""
    folder = tmp_path_factory.mktemp("sets")
    molecules = [molecule_from_smiles(s, name=s) for s in ("CCCCO", "C[C@H](N)CC")]
    for name, seed in (("ref", 1), ("a", 2), ("b", 3)):
        mols = {}
        with Chem.SDWriter(str(folder / f"{name}.sdf")) as writer:
            for molecule in molecules:
                mol = mol_with_conformers(molecule, embed(molecule, 4, seed=seed))
                mol.SetProp("_Name", molecule.name)
                mol.SetProp("SMILES", molecule.smiles)
                single = [Chem.Mol(mol, confId=c.GetId()) for c in mol.GetConformers()]
                mols[molecule.smiles] = single
                for one in single:
                    writer.write(one)
        (folder / f"{name}.pkl").write_bytes(pickle.dumps(mols))
    return folder


def test_pickles_of_the_published_evaluators_score_alike(sets):
    """The reader's process takes them apart; the scores are those of the SDF."""
    by_suffix = {suffix: evaluate(sets / f"a.{suffix}", sets / f"ref.{suffix}").report for suffix in ("sdf", "pkl")}
    for metric in METRICS:
        values = [by_suffix[s]["rows"]["0.75"][metric]["mean"] for s in ("sdf", "pkl")]
        assert values[0] == pytest.approx(values[1], abs=1e-3)  # an SDF holds four decimals
    assert set(by_suffix["pkl"]) >= set(RULES)


def test_hostile_or_foreign_pickles_are_one_line(sets, tmp_path):
    bad = {"code.pkl": b"cos\nsystem\n(S'true'\ntR.", "list.pkl": pickle.dumps([1, 2]), "torn.pkl": b"\x80\x04"}
    for name, content in bad.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=name):
            read_ensembles(tmp_path / name)


def test_reports_are_compared_by_molecule(sets, tmp_path):
    runner = CliRunner()
    for name in ("a", "b"):
        command = ["evaluate", str(sets / f"{name}.sdf"), "--reference", str(sets / "ref.sdf")]
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
