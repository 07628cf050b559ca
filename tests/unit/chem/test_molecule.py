"""Tests of ``conformergen.chem.molecule``."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rdkit import Chem
from support import VARIED, repeat

from conformergen.chem import (
    is_macrocycle,
    molecule_from_mol,
    molecule_from_smiles,
)
from conformergen.errors import MoleculeError


@pytest.mark.parametrize(
    ("text", "reason"),
    [("C1CC", "parse"), ("", "parse"), ("Cé", "parse"), ("C(C)(C)(C)(C)C", "sanitise"), ("C*", "domain"),
     ("[Na+].[Cl-]", "domain"), ("C" * 20_000, "too-large")],
)  # fmt: skip
def test_bad_smiles_have_reason_codes(text, reason):
    with pytest.raises(MoleculeError) as caught:
        molecule_from_smiles(text)
    assert caught.value.reason == reason


def test_smiles_is_a_fixed_point():
    molecule = molecule_from_smiles("OC(=O)[C@H](C)N")
    assert molecule_from_smiles(molecule.smiles).smiles == molecule.smiles


def test_macrocycles_have_rings_of_at_least_nine_atoms():
    smiles = ("CCO", "c1ccc2ccccc2c1", "C1CCCCCCC1", "C1CCCCCCCC1", "C1CCCCCCCCCCC1C1CC1")
    assert [is_macrocycle(molecule_from_smiles(s)) for s in smiles] == [False, False, False, True, True]


@repeat
@given(st.sampled_from(VARIED), st.integers(0, 2**31))
def test_features_follow_the_atoms(smiles, seed):
    """However the atoms are numbered, the molecule is the same, in its canonical order."""
    mol = Chem.MolFromSmiles(smiles)
    order = np.random.default_rng(seed).permutation(mol.GetNumAtoms()).tolist()
    one, other = molecule_from_smiles(smiles), molecule_from_mol(Chem.RenumberAtoms(mol, order), "")
    assert one.smiles == other.smiles
    for name in (
        "atomic_numbers",
        "atom_features",
        "bonds",
        "bond_types",
        "centres",
        "handedness",
        "double_bonds",
        "cis",
    ):
        np.testing.assert_array_equal(getattr(one.graph, name), getattr(other.graph, name))
