"""Tests of ``conformergen.reports.viewer``."""

import json

import pytest
from rdkit import Chem

from conformergen.chem import embed, mol_with_conformers, molecule_from_smiles
from conformergen.errors import InputError
from conformergen.reports.viewer import view


def test_conformers_are_shown_with_energies_and_torsions(tmp_path):
    molecule = molecule_from_smiles("CCCCO")
    mol = mol_with_conformers(molecule, embed(molecule, 3, seed=0))
    mol.SetProp("_Name", "</script><b>x")
    for index, conformer in enumerate(mol.GetConformers()):
        conformer.SetDoubleProp("energy_kcal", float(index))
    shown = view(mol)
    assert "iframe" in shown._repr_html_()
    assert "<b>x" not in shown.page
    data = json.loads(shown.page.split("const molecules = ")[1].split(";\n")[0])
    assert data[0]["energies"] == [0.0, 1.0, 2.0]
    assert len(data[0]["torsions"][0]) == len(data[0]["torsion_names"]) == 3
    shown.save(tmp_path / "a.html")
    assert (tmp_path / "a.html").read_text() == shown.page


def test_molecule_without_conformers_is_refused():
    with pytest.raises(InputError, match="no conformers"):
        view(Chem.MolFromSmiles("CCO"))
