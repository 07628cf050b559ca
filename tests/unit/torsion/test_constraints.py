"""Tests of ``conformergen.torsion.constraints``."""

import json

import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem import rdMolTransforms
from typer.testing import CliRunner

from conformergen.chem import embed, mol_with_conformers, molecule_from_smiles
from conformergen.cli import app
from conformergen.errors import InputError, MoleculeError
from conformergen.torsion.constraints import Constraints, constrained_conformers


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


def test_torsions_stay_at_their_angle():
    constraints = Constraints(torsions=(("[CH3:1][CH2:2][CH2:3][O:4]", 60.0),))
    molecule = molecule_from_smiles("CCCOCCCC")
    minima = constrained_conformers(molecule, 5, seed=0, constraints=constraints)
    mol = mol_with_conformers(molecule, minima.positions.astype(np.float32))
    assert mol.GetNumConformers() > 1
    quartet = mol.GetSubstructMatch(Chem.MolFromSmarts("[CH3][CH2][CH2]O"))
    for conformer in mol.GetConformers():
        assert rdMolTransforms.GetDihedralDeg(conformer, *quartet) == pytest.approx(60.0, abs=2.0)
    assert np.all(np.diff(minima.energies) >= 0)
    with pytest.raises(MoleculeError) as error:
        constrained_conformers(molecule_from_smiles("CCO"), 1, seed=0, constraints=constraints)
    assert error.value.reason == "domain"
    with pytest.raises(InputError, match=":1"):
        Constraints(torsions=(("CCCC", 60.0),))
    with pytest.raises(InputError, match="3D"):
        Constraints(core=Chem.MolToMolBlock(Chem.MolFromSmiles("CCO")))
    assert CliRunner().invoke(app, ["generate", "CCO", "--torsion", "CCCC"]).exit_code == 2
