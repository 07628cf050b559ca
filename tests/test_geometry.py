import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem import rdMolAlign
from scipy.spatial.transform import Rotation

import conformergen
from conformergen.chem import embed, heavy_atoms, mol_with_conformers, molecule_from_smiles, symmetry_group
from conformergen.geometry.automorphism import factorise
from conformergen.geometry.branch_bound import best_permutation, group_rmsd_matrix
from conformergen.geometry.duplicates import DuplicateRule, unique_conformers
from conformergen.geometry.graph import bonds_kept, hop_counts
from conformergen.geometry.quasi_newton import minimise, spring_compliance
from conformergen.geometry.rmsd import kabsch_rotation, largest_root, rmsd_matrix
from conformergen.geometry.stereo import stereo_ok

SYMMETRIC = ("CC(C)(C)c1ccc(C(=O)[O-])cc1", "O=[N+]([O-])c1ccc(C(F)(F)F)cc1", "NC(=[NH2+])NCCS(=O)(=O)[O-]", "CCO")


@pytest.mark.parametrize("smiles", SYMMETRIC)
def test_rmsd_is_rdkits_best_rms(smiles):
    molecule = molecule_from_smiles(smiles)
    positions = embed(molecule, 6, seed=0)
    mol = mol_with_conformers(molecule, positions)
    heavy = heavy_atoms(mol)
    group = symmetry_group(mol)
    ours = group_rmsd_matrix(positions[:3][:, heavy], positions[3:][:, heavy], group)
    bare = Chem.RemoveHs(mol)
    shuffled = Chem.RenumberAtoms(mol, np.random.default_rng(0).permutation(mol.GetNumAtoms()).tolist())
    np.testing.assert_allclose(conformergen.rmsd_matrix(mol, shuffled)[:3, 3:], ours, atol=1e-6)
    theirs = [
        [rdMolAlign.GetBestRMS(Chem.Mol(bare, confId=3 + j), Chem.Mol(bare, confId=i)) for j in range(3)]
        for i in range(3)
    ]
    assert group.exact
    np.testing.assert_allclose(ours, theirs, atol=2e-5)


#: Molecules whose groups are too large to list in every pair, and cages for the stabiliser chain.
LARGE = {
    "C12C3C4C1C5C2C3C45": 48,
    "C1C2CC3CC1CC(C2)C3": 24,
    "C12C3C4C5C1C6C7C2C8C3C9C4C1C5C6C2C7C8C9C12": 120,
    "O=C(O)C(F)(F)C(F)(F)C(F)(F)C(F)(F)C(F)(F)C(F)(F)C(F)(F)C(F)(F)F": 1536,
    "FC(F)(F)c1cc(C(F)(F)F)cc(NC(=S)Nc2cc(C(F)(F)F)cc(C(F)(F)F)c2)c1": 10368,
    "OP(=O)(O)CN(CCN(CP(=O)(O)O)CP(=O)(O)O)CP(=O)(O)O": 10368,
    "COc1ccc(O[Si](C(C)(C)C)(C(C)(C)C)C(C)(C)C)cc1": 2592,
}


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_largest_root_is_the_sum_of_singular_values(rank):
    """Double roots too: a matrix of rank 1, which swapping two atoms makes, has nothing else."""
    rng = np.random.default_rng(rank)
    m = rng.normal(size=(2000, 3, rank)) @ rng.normal(size=(2000, rank, 3)) * np.exp(2 * rng.normal(size=(2000, 1, 1)))
    u, s, v = np.linalg.svd(m)
    expected = s[:, 0] + s[:, 1] + np.sign(np.linalg.det(u) * np.linalg.det(v)) * s[:, 2]
    np.testing.assert_allclose(largest_root(m), expected, rtol=5e-8 if rank == 1 else 1e-12)
    assert largest_root(np.zeros((3, 3, 3))).tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("seed", range(3))
def test_swapped_pairs_do_not_mislead_the_search(seed):
    """Blocks of two atoms: each bound of the branch and bound is a double root."""
    mol = Chem.MolFromSmiles("CC1(COCCC(F)(F)C(F)(F)C(F)(F)C(F)(F)F)COC1")
    group = symmetry_group(mol)
    rng = np.random.default_rng(seed)
    ref = rng.normal(size=(6, mol.GetNumAtoms(), 3))
    gen = ref[:, group.permutations()[37]] + 0.3 * rng.normal(size=ref.shape)
    assert group.size == 96
    listed = rmsd_matrix(ref, gen, group.permutations())[0]
    np.testing.assert_allclose(group_rmsd_matrix(ref, gen, group), listed, atol=1e-9)


@pytest.mark.parametrize("smiles", LARGE)
def test_large_groups_are_whole_and_their_rmsd_exact(smiles):
    """Against the full list of automorphisms, each aligned by itself."""
    mol = Chem.MolFromSmiles(smiles)
    group = symmetry_group(mol)
    assert group.exact
    assert group.size == LARGE[smiles]
    rng = np.random.default_rng(0)
    ref, gen = (rng.normal(size=(k, mol.GetNumAtoms(), 3)) for k in (2, 3))
    permutations = group.permutations()
    gen[0] = ref[0][permutations[group.size // 2]] @ Rotation.random(random_state=0).as_matrix()
    listed = rmsd_matrix(ref, gen, permutations)[0]
    ours = group_rmsd_matrix(ref, gen, group)
    np.testing.assert_allclose(ours, listed, atol=1e-6)
    assert ours[0, 0] < 1e-6
    assert len(np.unique(permutations, axis=0)) == group.size


def test_group_cut_by_the_cap_says_so():
    bonds = [(0, i, 1) for i in range(1, 9)]
    assert factorise([0] + [1] * 8, bonds).size == 40320
    cut = factorise([0] + [1] * 8, bonds, max_outer=100)
    assert not cut.exact
    assert cut.size < 40320


def test_best_permutation_superposes():
    mol = Chem.MolFromSmiles("FC(F)(F)c1cc(C(F)(F)F)cc(NC(=S)Nc2cc(C(F)(F)F)cc(C(F)(F)F)c2)c1")
    group = symmetry_group(mol)
    rng = np.random.default_rng(1)
    x = rng.normal(size=(mol.GetNumAtoms(), 3))
    noisy = x[group.permutations()[777]] + 0.05 * rng.normal(size=x.shape)
    chosen = best_permutation(x, noisy, group)
    single = rmsd_matrix(x[None], noisy[None], chosen[None])[0][0, 0]
    assert single == pytest.approx(group_rmsd_matrix(x[None], noisy[None], group)[0, 0], abs=1e-6)


def test_rotated_molecule_has_no_rmsd_and_mirror_image_has():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1, 9, 3))
    rotated = x @ Rotation.random(random_state=1).as_matrix().T + 3.0
    identity = np.arange(9)[None]
    assert rmsd_matrix(x, rotated, identity)[0][0, 0] < 1e-6
    assert rmsd_matrix(x, -x, identity)[0][0, 0] > 0.1


def test_kabsch_recovers_the_rotation():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(7, 3))
    r = Rotation.random(random_state=2).as_matrix()
    np.testing.assert_allclose(kabsch_rotation(x @ r, x), r, atol=1e-10)


@pytest.mark.parametrize(
    "smiles",
    ["C[C@H](N)C(=O)O", "C[C@@H](N)C(=O)O", "F/C=C/Cl", "F/C=C\\Cl", "CC[S@](=O)C",
     "C[C@H]1CC[C@@H](O)CC1", "C[P@](=O)(O)c1ccccc1"],
)  # fmt: skip
def test_stereo_from_coordinates(smiles):
    molecule = molecule_from_smiles(smiles)
    positions = embed(molecule, 3, seed=0)
    assert stereo_ok(positions, molecule.graph).all()
    if len(molecule.graph.centres):
        assert not stereo_ok(-positions, molecule.graph).any()


def test_bond_check_sees_a_broken_bond():
    molecule = molecule_from_smiles("CCO")
    positions = embed(molecule, 1, seed=0)
    assert bonds_kept(positions, molecule.graph).all()
    positions[:, 0] += 2.0
    assert not bonds_kept(positions, molecule.graph).any()


def test_hops_of_a_chain():
    hops = hop_counts(molecule_from_smiles("CCCC").graph)
    assert hops[0, :4].tolist() == [0, 1, 2, 3]


def test_duplicates_are_found_across_rotation():
    rng = np.random.default_rng(0)
    base = rng.normal(size=(8, 3)) * 2
    other = base + rng.normal(size=(8, 3))
    turned = base @ Rotation.random(random_state=3).as_matrix().T
    kept = unique_conformers(
        np.stack([base, turned, other]),
        np.array([0.0, 0.01, 0.02]),
        masses=np.ones(8),
        compared=np.arange(8),
        group=factorise(list(range(8)), []),
        achiral=False,
        rule=DuplicateRule(),
    )
    assert kept == [0, 2]


def test_quasi_newton_finds_the_minimum_of_a_spring_network():
    rng = np.random.default_rng(0)
    rest = rng.normal(size=(12, 3)) * 2.0
    hops = np.minimum(np.abs(np.arange(12)[:, None] - np.arange(12)), 15).astype(np.uint8)
    lengths = np.linalg.norm(rest[:, None] - rest, axis=-1)
    stiff = 500.0 / (1.0 + hops) ** 3 * (hops > 0)
    calls = []

    def parts(flat):
        x = np.reshape(flat, (12, 3))
        arms = x[:, None] - x
        far = np.sqrt((arms**2).sum(-1)) + np.eye(12)
        return arms, far, far - np.eye(12) - lengths

    def energy(flat):
        return float(0.25 * (stiff * parts(flat)[2] ** 2).sum())

    def gradient(flat):
        calls.append(flat)
        arms, far, off = parts(flat)
        return tuple(((stiff * off / far)[..., None] * arms).sum(1).ravel())

    start = rest + 0.2 * rng.normal(size=rest.shape)
    found, reached = minimise(gradient, start, hops, max_steps=200)
    assert reached
    assert energy(found.ravel().tolist()) < 1e-2 < 0.01 * energy(start.ravel().tolist())
    assert len(calls) < 60
    assert minimise(gradient, start, hops, max_steps=1)[1] is False

    def broken(flat):
        return gradient(flat) if flat == start.ravel().tolist() else (np.nan,) * 36

    stayed, reached = minimise(broken, start, hops, max_steps=9)
    assert not reached
    np.testing.assert_array_equal(stayed, start)


def test_springs_are_a_hessian():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(7, 3))
    hops = np.abs(np.arange(7)[:, None] - np.arange(7)).astype(np.uint8)
    lower = np.tril(spring_compliance(x, hops))
    inverse = lower + np.tril(lower, -1).T
    values = np.linalg.eigvalsh(np.linalg.inv(inverse))
    assert values.min() == pytest.approx(5.0, rel=1e-3)  # moving all atoms together meets the floor alone
    assert values.max() > 700.0
