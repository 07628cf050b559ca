"""Tests of ``conformergen.geometry.graph``."""

from conformergen.chem import embed, molecule_from_smiles
from conformergen.geometry.graph import bonds_kept, hop_counts, rotatable_bonds


def test_bond_check_sees_a_broken_bond():
    molecule = molecule_from_smiles("CCO")
    positions = embed(molecule, 1, seed=0)
    assert bonds_kept(positions, molecule.graph).all()
    positions[:, 0] += 2.0
    assert not bonds_kept(positions, molecule.graph).any()


def test_hops_of_a_chain():
    hops = hop_counts(molecule_from_smiles("CCCC").graph)
    assert hops[0, :4].tolist() == [0, 1, 2, 3]


def test_bonds_that_turn():
    graph = molecule_from_smiles("C1CC1CC(=O)NC").graph
    rotors, turned = rotatable_bonds(graph)
    assert sorted(turned.sum(1).tolist()) == [3, 5, 7, 7]  # methyl, NHMe, and the smaller side of the two others
    for (j, k), beyond in zip(rotors.tolist(), turned, strict=True):
        assert not beyond[j]
        assert not beyond[k]
    assert rotatable_bonds(molecule_from_smiles("C=CC#C").graph)[0].shape == (1, 2)
    assert rotatable_bonds(molecule_from_smiles("c1ccccc1").graph)[1].shape == (0, 12)
