"""Tests of ``conformergen.chem.isomers``."""

import pytest

from conformergen.chem import (
    molecule_from_smiles,
)
from conformergen.chem.isomers import choose_isomer, has_open_stereo, isomers
from conformergen.errors import MoleculeError


def test_open_stereo_policies():
    text = "CC(N)C(=O)O"
    assert has_open_stereo(molecule_from_smiles(text))
    sampled = choose_isomer(text, "ala", seed=3)
    assert sampled.smiles == choose_isomer(text, "other", seed=3).smiles
    assert "@" in sampled.smiles
    assert {m.smiles for m in isomers(text, "x", policy="enumerate", seed=0)} == {"C[C@H](N)C(=O)O", "C[C@@H](N)C(=O)O"}
    with pytest.raises(MoleculeError, match="open stereo"):
        isomers(text, "x", policy="error", seed=0)


@pytest.mark.parametrize(
    ("text", "n_bonds", "n_isomers"),
    [("CC=CC", 1, 2), ("CC=NNC(C)=O", 1, 2), ("CC=NN=CC", 2, 3), ("CC(C)=CC", 0, 1), ("C1CCC=CC1", 0, 1)],
)
def test_open_double_bonds_are_one_isomer(text, n_bonds, n_isomers):
    chosen = choose_isomer(text, "x", seed=0)
    assert len(chosen.graph.double_bonds) == n_bonds
    assert (chosen.stereo == "sampled") is (n_isomers > 1)
    found = {m.smiles for m in isomers(text, "x", policy="enumerate", seed=0)}
    assert len(found) == n_isomers
    assert chosen.smiles in found
    if n_isomers > 1:
        with pytest.raises(MoleculeError, match="open stereo"):
            isomers(text, "x", policy="error", seed=0)


@pytest.mark.parametrize(
    ("text", "smiles"),
    [
        ("NC(=N)N", "N=C(N)N"),
        ("C[C@H](O)C(=N)C=NC", r"C/N=C\C(=N)[C@H](C)O"),
        ("CC(O)C(=N)N", "C[C@@H](O)C(=N)N"),
        (r"[H]/N=C(/C)C(C)O", r"[H]/N=C(/C)[C@H](C)O"),
    ],
)
def test_hydrogen_of_an_imine_is_no_stereo_unless_it_is_written(text, smiles):
    assert choose_isomer(text, "x", seed=0).smiles == smiles
    assert not has_open_stereo(molecule_from_smiles(smiles))
