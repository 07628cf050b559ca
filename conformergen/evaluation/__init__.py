"""Metrics, scores of molecules, and their summary."""

from conformergen.evaluation.metrics import METRICS, Metric
from conformergen.evaluation.molecule import Overlay, Score, ScoringTask, nearest_overlay, score_molecule
from conformergen.evaluation.summary import GRID, Row, coverage_curve, molecule_values, plain, summarise

__all__ = [
    "GRID",
    "METRICS",
    "Metric",
    "Overlay",
    "Row",
    "Score",
    "ScoringTask",
    "coverage_curve",
    "molecule_values",
    "nearest_overlay",
    "plain",
    "score_molecule",
    "summarise",
]
