"""Tests of ``conformergen.evaluation.metrics``."""

import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem import rdDistGeom, rdMolAlign

from conformergen.evaluation.metrics import METRICS
from conformergen.evaluation.scoring import ScoringTask, score_molecule
from conformergen.evaluation.summary import molecule_values


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


THREE = ("C[C@H](N)C(=O)O", "CCO", "F/C=C\\Cl")


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
