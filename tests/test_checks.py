"""Checks beyond COV and MAT: what each must see."""

import importlib.util
import re
import shutil

import numpy as np
import pytest
from typer.testing import CliRunner

from conformergen.chem import embed, mol_with_conformers, molecule_from_smiles
from conformergen.cli import app
from conformergen.errors import InputError
from conformergen.evaluation.checks import CHECKS, CheckSettings, run_check
from conformergen.evaluation.checks.strain import changes, internal_coordinates
from conformergen.evaluation.scoring import ScoringTask, score_molecule

SMILES = "C[C@H](N)/C=C/C1CCCCC1"


def _task(smiles=SMILES, *, change=None, n=4):
    molecule = molecule_from_smiles(smiles, smiles)
    refs, gens = (embed(molecule, n, seed=s) for s in (1, 2))
    if change is not None:
        gens = change(gens, molecule)
    sides = [[mol_with_conformers(molecule, p[None]) for p in side] for side in (refs, gens)]
    return ScoringTask(name=smiles, smiles=smiles, references=sides[0], samples=sides[1])


def _check(name, task, **settings):
    return run_check(CHECKS[name], [score_molecule(task)], CheckSettings(**settings)).to_json()


def test_stereo_sees_one_wrong_centre_and_nothing_else():
    good = _check("stereo", _task())["columns"]
    assert good["as_requested"] == {"passes_percent": 100.0, "n": 4}
    mirrored = _check("stereo", _task(change=lambda x, m: np.concatenate([x[:2], -x[2:]])))["columns"]
    assert mirrored["as_requested"]["passes_percent"] == 50.0
    assert mirrored["double_bonds"]["passes_percent"] == 100.0  # a mirror image keeps E and Z
    cis = ScoringTask(
        name="c", smiles=SMILES, references=_task().references, samples=_task(SMILES.replace("/C1", "\\C1")).samples
    )
    wrong = _check("stereo", cis)["columns"]
    assert wrong["double_bonds"]["passes_percent"] == 0.0
    assert wrong["centres"]["passes_percent"] == 100.0


def test_rings_are_scored_by_their_own_atoms():
    """Noise on a substituent does not matter; a flattened ring does."""
    task = _task()
    exact = ScoringTask(name="e", smiles=SMILES, references=task.references, samples=task.references)
    columns = _check("rings", exact)["columns"]
    assert columns["ring_mat_r"]["median"] == pytest.approx(0.0, abs=1e-4)
    assert columns["ring_cov_p"]["median"] == 100.0

    def flatten(positions, molecule):
        return positions * np.array([1.0, 1.0, 0.2], dtype=np.float32)

    assert _check("rings", _task(change=flatten))["columns"]["ring_cov_p"]["median"] < 100.0
    assert _check("rings", _task("c1ccccc1CC"))["columns"]["n_rings"]["median"] == 0.0


def test_internal_coordinates_and_their_changes():
    graph = molecule_from_smiles("CC").graph
    angles, torsions = internal_coordinates(graph)
    assert len(angles) == 12
    assert len(torsions) == 9
    before = embed(molecule_from_smiles("CC"), 1, seed=0)[0].astype(np.float64)
    assert changes(graph, before, before @ np.diag([1.0, 1.0, 1.0])) == (0.0, 0.0, 0.0)
    bond, angle, torsion = changes(graph, before, 1.1 * before)
    assert bond == pytest.approx(0.1 * np.mean([1.1] * 6 + [1.52]), abs=0.02)
    assert angle == pytest.approx(0.0, abs=1e-5)
    assert torsion == pytest.approx(0.0, abs=1e-5)


@pytest.mark.skipif(importlib.util.find_spec("posebusters") is None, reason="posebusters is not installed")
def test_posebusters_finds_the_broken_sample():
    def squeeze(positions, molecule):
        positions = positions.copy()
        positions[1] *= 0.7
        return positions

    columns = _check("posebusters", _task("CC(=O)Nc1ccc(O)cc1", change=squeeze), max_samples=4)["columns"]
    assert columns["all_checks"] == {"passes_percent": 75.0, "n": 4}
    assert columns["bond_lengths"]["passes_percent"] == 75.0
    assert columns["aromatic_ring_flatness"]["passes_percent"] == 100.0


@pytest.mark.parametrize("engine", ["xtb", "tblite"])
def test_strain_and_properties(engine):
    if engine == "xtb" and shutil.which("xtb") is None:
        pytest.skip("xtb is not installed")
    task = _task("CCO", n=2)
    strain = _check("strain", task, engine=engine)["columns"]
    assert 0.5 < strain["strain"]["median"] < 15.0
    assert 0.001 < strain["bond_change"]["median"] < 0.1
    properties = _check("properties", task, engine=engine)["columns"]
    # References are ETKDG geometries here, samples are relaxed: the difference is the strain.
    assert properties["lowest_energy_error"]["median"] == pytest.approx(strain["strain"]["median"], abs=3.0)
    assert properties["dipole_error"]["median"] < 1.0
    assert properties["gap_error"]["median"] < 40.0


def test_engines_agree_on_properties():
    if shutil.which("xtb") is None:
        pytest.skip("xtb is not installed")
    from conformergen.refinement.engines import ENGINES

    molecule = molecule_from_smiles("NCC(=O)O")
    positions = embed(molecule, 1, seed=0)[0].astype(np.float64)
    one, other = (ENGINES[name](molecule).properties(positions) for name in ("xtb", "tblite"))
    assert one.gap == pytest.approx(other.gap, abs=0.1)
    assert one.dipole == pytest.approx(other.dipole, abs=0.01)
    assert one.energy == pytest.approx(other.energy, abs=0.01)


def test_checks_reach_report_and_page(tmp_path):
    runner, out = CliRunner(), tmp_path
    for name, seed in (("ref", "1"), ("gen", "2")):
        made = runner.invoke(
            app, ["generate", SMILES, "-n", "3", "--method", "etkdg", "--seed", seed, "-o", str(out / f"{name}.sdf")]
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


def test_a_check_that_cannot_run_says_so(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *_: None)
    with pytest.raises(InputError, match="posebusters"):
        _check("posebusters", _task())


def test_molecules_without_samples_are_left_out_of_checks():
    task = _task()
    empty = ScoringTask(name="x", smiles=SMILES, references=task.references, samples=[])
    assert run_check(CHECKS["stereo"], [score_molecule(empty)], CheckSettings()).molecules == []
