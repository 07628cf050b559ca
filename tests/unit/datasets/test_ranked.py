"""Tests of ``conformergen.datasets.ranked``."""

from conformergen.chem import mmff_energies, mol_with_conformers


def test_baseline_is_the_force_field_energy_of_each_conformer(ranked_sets):
    for ranked in ranked_sets:
        conformers = ranked.conformers
        mol = mol_with_conformers(conformers.molecule, conformers.positions)
        assert (ranked.baseline == mmff_energies(mol)).all()
