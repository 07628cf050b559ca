"""Metrics, scores of molecules, and their summary."""

from conformergen.evaluation.metrics import METRICS, Metric
from conformergen.evaluation.molecule import (
    Overlay,
    Score,
    ScoringTask,
    Sides,
    in_one_order,
    nearest_overlay,
    score_molecule,
)
from conformergen.evaluation.rules import RULES, Rule
from conformergen.evaluation.summary import GRID, Paired, Row, coverage_curve, molecule_values, paired, plain, summarise

__all__ = [
    "GRID",
    "METRICS",
    "RULES",
    "Metric",
    "Overlay",
    "Paired",
    "Row",
    "Rule",
    "Score",
    "ScoringTask",
    "Sides",
    "coverage_curve",
    "in_one_order",
    "molecule_values",
    "nearest_overlay",
    "paired",
    "plain",
    "score_molecule",
    "summarise",
]
