"""Tests of ``conformergen.chem.atom_mapping``."""

import numpy as np
import pytest
from rdkit import Chem

from conformergen.chem import (
    conformer_positions,
    embed,
    mol_with_conformers,
    molecule_from_smiles,
    resolve_open_stereo,
)
from conformergen.chem.isomers import choose_isomer
from conformergen.geometry.stereo import stereo_ok


def test_foreign_conformers_are_mapped_or_refused():
    molecule = molecule_from_smiles("C[C@H](N)C(=O)O")
    mol = mol_with_conformers(molecule, embed(molecule, 1, seed=0))
    shuffled = Chem.RenumberAtoms(mol, list(reversed(range(mol.GetNumAtoms()))))
    mirrored = mol_with_conformers(molecule, -embed(molecule, 1, seed=0))
    isomer = molecule_from_smiles("NCCC(=O)O")
    reacted = mol_with_conformers(isomer, embed(isomer, 1, seed=0))
    first, second, third, fourth = conformer_positions(molecule, [mol, shuffled, mirrored, reacted])
    np.testing.assert_allclose(np.sort(first, axis=0), np.sort(second, axis=0), atol=1e-5)
    assert (third, fourth) == ("stereo", "reacted")


def test_open_stereo_is_taken_from_the_conformer():
    known = molecule_from_smiles("C[C@H](N)C(=O)O")
    mol = mol_with_conformers(known, embed(known, 1, seed=0))
    resolved = resolve_open_stereo(Chem.MolFromSmiles("CC(N)C(=O)O"), mol)
    assert (resolved.smiles, resolved.stereo) == (known.smiles, "sampled")


def test_open_stereo_is_that_of_the_atom_that_the_smiles_leaves_open():
    known = molecule_from_smiles("C[C@H](O)[C@@H](C)O")
    mol = mol_with_conformers(known, embed(known, 1, seed=0))
    rng = np.random.default_rng(0)
    for _ in range(8):
        shuffled = Chem.RenumberAtoms(mol, rng.permutation(mol.GetNumAtoms()).tolist())
        assert resolve_open_stereo(Chem.MolFromSmiles("C[C@H](O)C(C)O"), shuffled).smiles == known.smiles


@pytest.mark.parametrize(
    ("smiles", "other"),
    [
        ("C[C@H](O)[C@@H](C)O", "C[C@H](O)[C@H](C)O"),
        (r"C/C=C/C=C\C", r"C/C=C/C=C/C"),
        ("C[C@H]1C[C@@H](C)CC(O)C1", "C[C@H]1C[C@H](C)CC(O)C1"),
    ],
)
def test_atoms_that_only_stereo_tells_apart_are_told_apart(smiles, other):
    rng = np.random.default_rng(0)
    molecule = choose_isomer(smiles, "x", seed=0)
    for source, fits in ((molecule, True), (choose_isomer(other, "x", seed=0), False)):
        mol = mol_with_conformers(source, embed(source, 1, seed=0))
        shuffled = [Chem.RenumberAtoms(mol, rng.permutation(mol.GetNumAtoms()).tolist()) for _ in range(8)]
        mapped = conformer_positions(molecule, shuffled)
        if not fits:
            assert mapped == ["stereo"] * 8
            continue
        for positions in mapped:
            assert stereo_ok(positions[None], molecule.graph)[0]
            bonds = molecule.graph.bonds
            assert np.linalg.norm(positions[bonds[:, 0]] - positions[bonds[:, 1]], axis=1).max() < 1.7
