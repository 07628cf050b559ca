"""COV and MAT of one molecule from its RMSD matrix (ref, gen), Å. To add a metric: a function and a line.

Ganea et al. 2021, arXiv 2106.07802; strict ``<`` as in torsional diffusion's evaluator (Jing et al. 2022,
arXiv 2206.01729, ``evaluate_confs.py``).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Float

Rmsd = Float[np.ndarray, "ref gen"]


def cov_r(rmsd: Rmsd, threshold: float) -> float:
    """Share of references whose nearest sample is closer than the threshold."""
    return float((rmsd.min(axis=1) < threshold).mean())


def cov_p(rmsd: Rmsd, threshold: float) -> float:
    """Share of samples whose nearest reference is closer than the threshold."""
    return float((rmsd.min(axis=0) < threshold).mean())


def mat_r(rmsd: Rmsd, threshold: float) -> float:
    """Mean RMSD from each reference to its nearest sample; NaN where none counts."""
    del threshold
    return _finite_mean(rmsd.min(axis=1))


def mat_p(rmsd: Rmsd, threshold: float) -> float:
    """Mean RMSD from each sample to its nearest reference, of the samples that count."""
    del threshold
    return _finite_mean(rmsd.min(axis=0))


def _finite_mean(minima: Float[np.ndarray, " _"]) -> float:
    """Mean of what is finite: a rule bars a sample by an infinite column."""
    finite = minima[np.isfinite(minima)]
    return float(finite.mean()) if len(finite) else float("nan")


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One number of a molecule.

    Attributes:
        function: From the RMSD matrix and the threshold.
        unit: Of the value, after multiplication by ``scale``.
        higher_is_better: Direction.
        scale: Factor for printing.
        without_sample: Value of a molecule without any sample; None leaves it out of the average.
    """

    function: Callable[[Rmsd, float], float]
    unit: str
    higher_is_better: bool
    scale: float = 1.0
    without_sample: float | None = None


#: Metrics by name.
METRICS: Final[Mapping[str, Metric]] = {
    "cov_r": Metric(function=cov_r, unit="%", higher_is_better=True, scale=100.0, without_sample=0.0),
    "mat_r": Metric(function=mat_r, unit="Å", higher_is_better=False),
    "cov_p": Metric(function=cov_p, unit="%", higher_is_better=True, scale=100.0, without_sample=0.0),
    "mat_p": Metric(function=mat_p, unit="Å", higher_is_better=False),
}
