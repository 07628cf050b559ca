"""Tests of ``conformergen.generation.api``."""

import os

import pytest
from rdkit import Chem

import conformergen
from conformergen.errors import InputError, MoleculeError


def test_transformer_keeps_order_and_names_failures():
    generator = conformergen.ConformerGenerator(n=2, method="etkdg").fit()
    mols = generator.transform(["CCO", "no smiles", Chem.MolFromSmiles("CCN")])
    assert [m and m.GetNumConformers() for m in mols] == [2, None, 2]
    assert [(f.index, f.reason) for f in generator.failures_] == [(1, "sanitise")]
    with pytest.raises(MoleculeError) as error:
        conformergen.generate("C1CC")
    assert error.value.reason == "parse"
    with pytest.raises(InputError):
        conformergen.ConformerGenerator(method="magic")


def test_environment_is_left_alone():
    before = dict(os.environ)
    conformergen.generate("CCO", n=1, method="etkdg")
    assert dict(os.environ) == before


def test_python_api(tiny_run):
    mol = conformergen.generate("CC(N)C(=O)O", n=3, checkpoint=str(tiny_run), refine="mmff94s")
    assert mol.GetNumConformers() == 3
    assert mol.GetConformer(0).HasProp("energy_kcal")
    again = conformergen.generate(Chem.MolFromSmiles("CCO"), n=2, method="etkdg")
    assert again.GetNumConformers() == 2
    with pytest.raises(MoleculeError) as caught:
        conformergen.generate("C1CC", method="etkdg")
    assert caught.value.reason == "parse"
    assert conformergen.load_model(tiny_run).diffusion.prior == "seed"
