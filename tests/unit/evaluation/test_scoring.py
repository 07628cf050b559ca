"""Tests of ``conformergen.evaluation.scoring``."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from rdkit import Chem
from scipy.spatial.transform import Rotation
from support import VARIED, repeat

import conformergen
from conformergen.chem import mol_with_conformers, molecule_from_smiles, symmetry_group
from conformergen.evaluation.metrics import METRICS
from conformergen.evaluation.scoring import ScoringTask, score_molecule
from conformergen.geometry.branch_bound import group_rmsd_matrix


def _positions(n_conf, n_atoms, seed):
    return np.random.default_rng(seed).normal(size=(n_conf, n_atoms, 3)).astype(np.float32)


@repeat
@given(st.sampled_from(VARIED[2:8]), st.integers(0, 2**31))
def test_scores_do_not_depend_on_frame_labels_or_order(smiles, seed):
    rng = np.random.default_rng(seed)
    molecule = molecule_from_smiles(smiles, smiles)
    n = molecule.graph.n_atoms
    refs, gens = _positions(3, n, seed), _positions(4, n, seed + 1)
    turn = Rotation.random(random_state=int(seed % 2**31)).as_matrix().astype(np.float32)
    order = rng.permutation(3)

    def score(references, samples):
        sides = [[mol_with_conformers(molecule, p[None]) for p in side] for side in (references, samples)]
        result = score_molecule(ScoringTask(name="m", smiles=smiles, references=sides[0], samples=sides[1]))
        return [metric.function(result.rmsd, 0.75) for metric in METRICS.values()], result.rmsd

    plain, matrix = score(refs, gens)
    moved, other = score((refs @ turn + 3.0)[order], gens @ turn)
    np.testing.assert_allclose(plain, moved, atol=1e-4)
    np.testing.assert_allclose(matrix[order], other, atol=1e-4)
    mol = Chem.MolFromSmiles(smiles)
    group = symmetry_group(mol)
    heavy = _positions(2, mol.GetNumAtoms(), seed).astype(np.float64)
    relabelled = heavy[:, group.permutations()[int(rng.integers(group.size))]]
    np.testing.assert_allclose(np.diag(group_rmsd_matrix(heavy, relabelled, group)), 0.0, atol=1e-6)


def test_public_rmsd_matrix_takes_a_device():
    mol = conformergen.generate("CCCCO", n=3, method="etkdg")
    np.testing.assert_allclose(
        # squared: a distance of nothing is the root of a rounding error
        conformergen.rmsd_matrix(mol, mol, device="cpu") ** 2,
        conformergen.rmsd_matrix(mol, mol) ** 2,
        atol=1e-9,
    )
