"""Metrics, scores of molecules, and their summary."""

from conformergen.evaluation.metrics import METRICS, Metric
from conformergen.evaluation.molecule import Score, ScoringTask, score_molecule
from conformergen.evaluation.summary import GRID, Row, coverage_curve, molecule_values, plain, summarise

__all__ = [
    "GRID",
    "METRICS",
    "Metric",
    "Row",
    "Score",
    "ScoringTask",
    "coverage_curve",
    "molecule_values",
    "plain",
    "score_molecule",
    "summarise",
]
