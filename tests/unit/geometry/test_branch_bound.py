"""Tests of ``conformergen.geometry.branch_bound``."""

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem import rdDistGeom, rdMolAlign

import conformergen
from conformergen.chem import embed, heavy_atoms, mol_with_conformers, molecule_from_smiles, symmetry_group
from conformergen.geometry.branch_bound import best_permutation, group_rmsd_matrix
from conformergen.geometry.rmsd import rmsd_matrix

SYMMETRIC = ("CC(C)(C)c1ccc(C(=O)[O-])cc1", "O=[N+]([O-])c1ccc(C(F)(F)F)cc1", "NC(=[NH2+])NCCS(=O)(=O)[O-]", "CCO")


def _drug_like(n):
    with (Path(__file__).parents[3] / "data" / "training" / "molecules.smi").open() as file:
        return [line.split()[0] for line in islice(file, 0, None, 3)][:n]


def _deviation(smiles):
    """Largest difference to ``GetBestRMS`` over 2 x 3 pairs, Å, or None where RDKit cannot embed."""
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    parameters = rdDistGeom.ETKDGv3()
    parameters.randomSeed, parameters.maxIterations = 5, 20
    if len(rdDistGeom.EmbedMultipleConfs(mol, 5, parameters)) < 5:
        return None
    bare = Chem.RemoveHs(mol)
    positions = np.array([c.GetPositions() for c in bare.GetConformers()])
    from conformergen.geometry.branch_bound import group_rmsd_matrix

    ours = group_rmsd_matrix(positions[:2], positions[2:], symmetry_group(bare))
    theirs = [
        [rdMolAlign.GetBestRMS(Chem.Mol(bare, confId=2 + j), Chem.Mol(bare, confId=i)) for j in range(3)]
        for i in range(2)
    ]
    return float(np.abs(ours - theirs).max())


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


def test_best_permutation_superposes():
    mol = Chem.MolFromSmiles("FC(F)(F)c1cc(C(F)(F)F)cc(NC(=S)Nc2cc(C(F)(F)F)cc(C(F)(F)F)c2)c1")
    group = symmetry_group(mol)
    rng = np.random.default_rng(1)
    x = rng.normal(size=(mol.GetNumAtoms(), 3))
    noisy = x[group.permutations()[777]] + 0.05 * rng.normal(size=x.shape)
    chosen = best_permutation(x, noisy, group)
    single = rmsd_matrix(x[None], noisy[None], chosen[None])[0][0, 0]
    assert single == pytest.approx(group_rmsd_matrix(x[None], noisy[None], group)[0, 0], abs=1e-6)


@pytest.mark.parametrize("n", [40, pytest.param(1000, marks=pytest.mark.slow)])
def test_rmsd_agrees_with_rdkit_on_drug_like_molecules(n):
    deviations = [d for d in map(_deviation, _drug_like(n)) if d is not None]
    assert len(deviations) >= 0.97 * n
    assert max(deviations) < 1e-6
