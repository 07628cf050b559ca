"""Tests of ``conformergen.chem.symmetry``."""

from rdkit import Chem

from conformergen.chem import (
    relabelings,
    symmetry_group,
)


def test_training_automorphisms_keep_bond_orders_and_stereo():
    acid = Chem.AddHs(Chem.MolFromSmiles("CC(=O)O"))
    assert symmetry_group(acid).size == 2
    assert len(relabelings(acid, max_matches=9)[0]) == 1
    capped, complete = relabelings(Chem.MolFromSmiles("CC(C)(C)C"), max_matches=3)
    assert len(capped) == 3
    assert not complete
