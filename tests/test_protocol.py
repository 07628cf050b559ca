"""The published evaluator, line by line, beside ours; and RMSDs beside RDKit's on many molecules."""

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem import rdDistGeom, rdMolAlign

import conformergen
from conformergen.chem import symmetry_group
from conformergen.evaluation.metrics import METRICS
from conformergen.evaluation.scoring import ScoringTask, score_molecule
from conformergen.evaluation.summary import molecule_values
from conformergen.geometry.rmsd import rmsd_matrix


def published_evaluator(predictions, references, corrected, threshold):
    """``evaluate_confs.py`` of torsional diffusion (Jing et al. 2022), statement by statement.

    Args:
        predictions: ``{corrected SMILES: [Mol]}``.
        references: ``{SMILES: [Mol]}``.
        corrected: ``{SMILES: corrected SMILES}``.
        threshold: Å.
    """
    failures = 0
    coverage_recall, amr_recall, coverage_precision, amr_precision = [], [], [], []
    for smiles, confs in references.items():
        if corrected[smiles] not in predictions:
            failures += 1
            coverage_recall.append(0.0)
            coverage_precision.append(0.0)
            continue
        wanted = Chem.MolToSmiles(Chem.MolFromSmiles(corrected[smiles], sanitize=False), isomericSmiles=False)
        clean = [c for c in confs if Chem.MolToSmiles(Chem.RemoveHs(c, sanitize=False), isomericSmiles=False) == wanted]
        if not clean:
            continue
        samples = predictions[corrected[smiles]]
        rmsd = np.zeros((len(clean), len(samples)))
        for i, ref in enumerate(clean):
            for j, gen in enumerate(samples):
                rmsd[i, j] = rdMolAlign.GetBestRMS(Chem.RemoveHs(ref), Chem.RemoveHs(Chem.Mol(gen)))
        recall, precision = rmsd.min(axis=1), rmsd.min(axis=0)
        coverage_recall.append((recall < threshold).mean())
        coverage_precision.append((precision < threshold).mean())
        amr_recall.append(recall.mean())
        amr_precision.append(precision.mean())
    return {
        "cov_r": 100 * np.mean(coverage_recall),
        "mat_r": np.nanmean(amr_recall),
        "cov_p": 100 * np.mean(coverage_precision),
        "mat_p": np.nanmean(amr_precision),
    }, failures


def _mols(smiles, n, seed):
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    parameters = rdDistGeom.ETKDGv3()
    parameters.randomSeed = seed
    rdDistGeom.EmbedMultipleConfs(mol, n, parameters)
    return [Chem.Mol(mol, confId=c.GetId()) for c in mol.GetConformers()]


def test_scores_are_the_published_evaluators():
    """With a missing molecule, reacted references and symmetric groups; every number to 1e-6, the formulas to 1e-9."""
    smiles = ("CC(C)CC(=O)[O-]", "Cc1ccccc1CCN", "FC(F)(F)CCCO", "CCCCC=O")
    references = {s: _mols(s, 4, 1) for s in smiles}
    references[smiles[1]] += _mols("Cc1ccccc1CCO", 1, 1)  # another molecule: dropped
    corrected = {s: Chem.CanonSmiles(s) for s in smiles}
    predictions = {corrected[s]: _mols(s, 8, 2) for s in smiles[:-1]}
    tasks = [
        ScoringTask(name=s, smiles=corrected[s], references=references[s], samples=predictions.get(corrected[s], []))
        for s in smiles
    ]
    scores = [score_molecule(task) for task in tasks]
    assert [s.n_dropped_references for s in scores] == [0, 1, 0, 0]
    for threshold in (0.25, 0.5, 0.75):
        expected, failures = published_evaluator(predictions, references, corrected, threshold)
        assert failures == 1
        for name in METRICS:
            assert np.nanmean(molecule_values(scores, name, threshold)) == pytest.approx(expected[name], abs=1e-6)
    # The same matrix through both: nothing but the arithmetic of the metrics is left.
    matrix = scores[0].rmsd
    expected = [(matrix.min(1) < 0.5).mean(), matrix.min(1).mean(), (matrix.min(0) < 0.5).mean(), matrix.min(0).mean()]
    for metric, value in zip(METRICS.values(), expected, strict=True):
        assert metric.function(matrix, 0.5) == pytest.approx(value, abs=1e-9)


def _drug_like(n):
    with (Path(__file__).parent.parent / "data" / "training" / "molecules.smi").open() as file:
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


@pytest.mark.parametrize("n", [40, pytest.param(1000, marks=pytest.mark.slow)])
def test_rmsd_agrees_with_rdkit_on_drug_like_molecules(n):
    deviations = [d for d in map(_deviation, _drug_like(n)) if d is not None]
    assert len(deviations) >= 0.97 * n
    assert max(deviations) < 1e-6


def test_torch_and_numpy_give_the_same_matrix():
    rng = np.random.default_rng(0)
    ref, gen = rng.normal(size=(5, 9, 3)), rng.normal(size=(7, 9, 3))
    permutations = np.array([np.arange(9), *(rng.permutation(9) for _ in range(5))])
    plain, winner = rmsd_matrix(ref, gen, permutations)
    other, again = rmsd_matrix(ref, gen, permutations, device="cpu")
    np.testing.assert_allclose(other, plain, atol=1e-12)
    np.testing.assert_array_equal(winner, again)
    one_by_one = [[rmsd_matrix(r[None], g[None], p[None])[0][0, 0] for p in permutations] for r in ref for g in gen]
    np.testing.assert_allclose(plain.ravel(), np.min(one_by_one, axis=1), atol=1e-12)


@pytest.mark.parametrize("case", ["same", "flat", "line", "point", "mirror"])
def test_degenerate_structures_have_exact_rmsds(case):
    """Where roots of the quartic coincide: identical, planar, linear, collapsed and mirror-image structures."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(1, 8, 3))
    y = x.copy()
    if case == "flat":
        x[..., 2], y = 0.0, rng.normal(size=(1, 8, 3)) * [1, 1, 0]
    elif case == "line":
        x[..., 1:], y = 0.0, rng.normal(size=(1, 8, 3)) * [1, 0, 0]
    elif case == "point":
        y = np.zeros_like(x)
    elif case == "mirror":
        y = -x
    x, y = (a - a.mean(1, keepdims=True) for a in (x, y))
    u, s, v = np.linalg.svd(x[0].T @ y[0])
    s[-1] *= np.sign(np.linalg.det(u) * np.linalg.det(v)) or 1.0
    expected = np.sqrt(max(0.0, ((x**2).sum() + (y**2).sum() - 2.0 * s.sum()) / 8))
    assert rmsd_matrix(x, y, np.arange(8)[None])[0][0, 0] == pytest.approx(expected, abs=2e-7)


def test_public_rmsd_matrix_takes_a_device():
    mol = conformergen.generate("CCCCO", n=3, method="etkdg")
    np.testing.assert_allclose(
        # squared: a distance of nothing is the root of a rounding error
        conformergen.rmsd_matrix(mol, mol, device="cpu") ** 2,
        conformergen.rmsd_matrix(mol, mol) ** 2,
        atol=1e-9,
    )
