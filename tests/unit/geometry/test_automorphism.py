"""Tests of ``conformergen.geometry.automorphism``."""

import numpy as np
import pytest
from rdkit import Chem
from scipy.spatial.transform import Rotation

from conformergen.chem import symmetry_group
from conformergen.geometry.automorphism import factorise
from conformergen.geometry.branch_bound import group_rmsd_matrix
from conformergen.geometry.rmsd import rmsd_matrix

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
