"""Tests of ``conformergen.reports.tables``."""

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
from conformergen.errors import InputError
from conformergen.evaluation.report import read_report
from conformergen.reports.tables import comparison_table


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
