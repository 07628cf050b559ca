"""Tests of ``conformergen.records.records``."""

import numpy as np

from conformergen.records import ConformerSet, Fallback, Minima


def test_selection_keeps_every_array_in_step(ensembles):
    conformers = ensembles[0]
    picked = conformers.select(np.array([2, 0]))
    np.testing.assert_array_equal(picked.positions, conformers.positions[[2, 0]])
    np.testing.assert_array_equal(picked.starts, conformers.starts[[2, 0]])
    np.testing.assert_array_equal(picked.energies, conformers.energies[[2, 0]])
    bare = ConformerSet(molecule=conformers.molecule, positions=conformers.positions)
    assert bare.select(np.array([1])).energies is None


def test_minima_are_joined_and_selected():
    one = Minima(positions=np.zeros((2, 3, 3)), energies=np.array([1.0, 2.0]))
    both = one.join(Minima(positions=np.ones((1, 3, 3)), energies=np.array([0.5])))
    assert len(both) == 3
    assert both.select(both.energies < 1.5).energies.tolist() == [1.0, 0.5]


def test_worse_fallbacks_are_larger_and_have_names():
    assert max(Fallback.REDRAWN, Fallback.START) is Fallback.START
    assert [f.label for f in Fallback] == ["regular", "redrawn", "start", "random-coordinates", "distance-geometry"]


def test_key_of_a_molecule_depends_on_its_smiles_only(ensembles):
    molecule = ensembles[0].molecule
    assert len(molecule.key) == 16
    assert molecule.key != ensembles[1].molecule.key
