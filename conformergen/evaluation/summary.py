"""From scores of molecules to one row: means, medians and bootstrap intervals."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from conformergen.evaluation.metrics import METRICS
from conformergen.evaluation.rules import RULES
from conformergen.evaluation.scoring import Score

#: Thresholds of the COV curve, Å: the grid of torsional diffusion.
GRID: Final = np.arange(0.0, 2.5, 0.125)
#: Bootstrap samples of an interval.
_RESAMPLES: Final = 2000


@dataclass(frozen=True, kw_only=True)
class Row:
    """One metric over all molecules.

    Attributes:
        mean: Mean over molecules.
        median: Median over molecules.
        low: Lower end of the 95 % bootstrap interval of the mean over molecules.
        high: Upper end.
        n_scored: Molecules that entered.
    """

    mean: float
    median: float
    low: float
    high: float
    n_scored: int


@dataclass(frozen=True, kw_only=True)
class Paired:
    """Mean difference over molecules and its 95 % interval."""

    mean: float
    low: float
    high: float
    n: int


def molecule_values(scores: Sequence[Score], name: str, threshold: float, *, rule: str = "rows") -> np.ndarray:
    """Value of each molecule; NaN where it has none.

    Args:
        scores: One per reference molecule.
        name: Entry of ``METRICS``.
        threshold: Å.
        rule: Entry of ``RULES``: which molecules, references and samples count.
    """
    metric, counted = METRICS[name], RULES[rule]
    limit = counted.threshold(threshold)
    values = []
    for score in scores:
        rmsd = counted.view(score)
        if rmsd is None:
            values.append(np.nan)
        elif rmsd.shape[1] == 0:
            values.append(np.nan if metric.without_sample is None else metric.without_sample)
        else:
            values.append(metric.function(rmsd, limit))
    return np.array(values, dtype=np.float64) * metric.scale


def bootstrap_mean(values: np.ndarray, *, seed: int = 0) -> tuple[float, float]:
    """95 % percentile interval of the mean."""
    if len(values) < 2:
        return float("nan"), float("nan")
    rng = np.random.default_rng(seed)
    means = values[rng.integers(len(values), size=(_RESAMPLES, len(values)))].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def summarise(scores: Sequence[Score], threshold: float, *, rule: str = "rows") -> dict[str, Row]:
    """One row per metric."""
    rows = {}
    for name in METRICS:
        values = molecule_values(scores, name, threshold, rule=rule)
        values = values[~np.isnan(values)]
        low, high = bootstrap_mean(values)
        rows[name] = Row(
            mean=float(values.mean()) if len(values) else float("nan"),
            median=float(np.median(values)) if len(values) else float("nan"),
            low=low,
            high=high,
            n_scored=len(values),
        )
    return rows


def paired(first: Sequence[float], second: Sequence[float]) -> Paired:
    """Difference of two methods on the same molecules, with the 95 % bootstrap interval of its mean."""
    difference = np.array(first, dtype=np.float64) - np.array(second, dtype=np.float64)
    difference = difference[~np.isnan(difference)]
    low, high = bootstrap_mean(difference)
    mean = float(difference.mean()) if len(difference) else float("nan")
    return Paired(mean=mean, low=low, high=high, n=len(difference))


def coverage_curve(scores: Sequence[Score], name: str) -> list[float]:
    """Mean coverage at each threshold of ``GRID``, failed molecules as 0, %."""
    return [float(np.nanmean(molecule_values(scores, name, float(t)))) for t in GRID]
