import numpy as np
import pytest
from rdkit import Chem

from conformergen.chem import (
    conformer_positions,
    embed,
    is_macrocycle,
    mol_with_conformers,
    molecule_from_smiles,
    relabelings,
    resolve_open_stereo,
    symmetry_group,
)
from conformergen.chem.isomers import choose_isomer, has_open_stereo, isomers
from conformergen.datasets.pairing import PairingSettings, with_starts
from conformergen.errors import MoleculeError
from conformergen.geometry.stereo import stereo_ok
from conformergen.records import ConformerSet


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


def test_embedding_depends_on_nothing_but_seed_and_molecule():
    molecule = molecule_from_smiles("CCCCO")
    np.testing.assert_array_equal(embed(molecule, 3, seed=5)[:2], embed(molecule, 2, seed=5))
    assert not np.array_equal(embed(molecule, 2, seed=5), embed(molecule, 2, seed=6))


def test_training_automorphisms_keep_bond_orders_and_stereo():
    acid = Chem.AddHs(Chem.MolFromSmiles("CC(=O)O"))
    assert symmetry_group(acid).size == 2
    assert len(relabelings(acid, max_matches=9)[0]) == 1
    capped, complete = relabelings(Chem.MolFromSmiles("CC(C)(C)C"), max_matches=3)
    assert len(capped) == 3
    assert not complete


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


def test_pairing_finds_relabelled_copies_of_the_references():
    molecule = molecule_from_smiles("CC(C)CCO")
    seeds = embed(molecule, 5, seed=11)
    conformers = ConformerSet(molecule=molecule, positions=seeds[::-1].copy())
    paired = with_starts(conformers, PairingSettings(min_starts=5), seed=11)
    np.testing.assert_allclose(paired.starts, conformers.positions, atol=1e-3)


def test_macrocycles_have_rings_of_at_least_nine_atoms():
    smiles = ("CCO", "c1ccc2ccccc2c1", "C1CCCCCCC1", "C1CCCCCCCC1", "C1CCCCCCCCCCC1C1CC1")
    assert [is_macrocycle(molecule_from_smiles(s)) for s in smiles] == [False, False, False, True, True]
