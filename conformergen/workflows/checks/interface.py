"""What a check is, and its table."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from conformergen.errors import InputError, MoleculeError
from conformergen.evaluation import ScoringTask, plain
from conformergen.workflows.pool import map_molecules


@dataclass(frozen=True, kw_only=True)
class CheckSettings:
    """How far the costly checks go.

    Attributes:
        max_samples: Samples of a molecule that are looked at, evenly spread.
        engine: Entry of ``refinement.engines.ENGINES``.
    """

    max_samples: int = 10
    engine: str = "auto"

    def __post_init__(self) -> None:
        if self.max_samples < 1:
            raise InputError("--check-samples must be at least 1")

    def spread(self, n: int) -> np.ndarray:
        """Indices of at most ``max_samples`` of n."""
        return np.unique(np.linspace(0, n - 1, min(n, self.max_samples)).round().astype(np.int64))


@dataclass(frozen=True, eq=False, kw_only=True)
class Checked:
    """One molecule's answers.

    Attributes:
        samples: By column, a value for each sample looked at; booleans are passes, NaN is no answer.
        molecule: Values of the molecule as a whole.
    """

    samples: dict[str, np.ndarray] = field(default_factory=dict)
    molecule: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Check:
    """One kind of check.

    Attributes:
        run: Looks at one molecule: ``run(task, settings)``.
        units: Of each numeric column.
        needs: Raises ``InputError`` where something is not installed.
    """

    run: Callable[..., Checked]
    units: dict[str, str] = field(default_factory=dict)
    needs: Callable[[CheckSettings], None] = lambda settings: None


def run_check(
    check: Check,
    tasks: Sequence[ScoringTask],
    settings: CheckSettings,
    *,
    jobs: int = 1,
    timeout: float = 3600.0,
    progress: Callable[[int], None] = lambda n: None,
) -> dict[str, Any]:
    """Table of one check: columns over all samples, columns over molecules, and each molecule's means.

    Raises:
        InputError: Where the check needs what is not installed.
    """
    check.needs(settings)
    asked = [task for task in tasks if task.samples]
    done: list[tuple[str, Checked]] = []
    failed: list[dict[str, str]] = []
    work = partial(check.run, settings=settings)
    for task, result in zip(asked, map_molecules(work, asked, jobs=jobs, timeout=timeout), strict=True):
        progress(1)
        if isinstance(result, MoleculeError):
            failed.append({"name": task.name, "reason": result.reason, "message": str(result)})
        else:
            done.append((task.name, result))
    return plain(
        {
            "n_molecules": len(done),
            "failed": failed,
            "columns": _columns([c.samples for _, c in done], check.units)
            | _columns([{k: np.array([v]) for k, v in c.molecule.items()} for _, c in done], check.units),
            "molecules": [
                {"name": name, **{k: _mean(v) for k, v in c.samples.items()}, **c.molecule} for name, c in done
            ],
        }
    )


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values.astype(np.float64))]
    return float(known.mean()) if len(known) else float("nan")


def _columns(parts: list[dict[str, np.ndarray]], units: dict[str, str]) -> dict[str, dict[str, Any]]:
    """Pass rate in % of boolean columns; median, mean and quartiles of numbers."""
    columns: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys(key for part in parts for key in part):
        arrays = [part[name] for part in parts if name in part]
        values = np.concatenate([a.astype(np.float64) for a in arrays])
        known = values[~np.isnan(values)]
        if len(known) == 0:
            continue
        if name not in units:
            columns[name] = {"passes_percent": 100.0 * float(known.mean()), "n": len(known)}
            continue
        low, median, high = np.quantile(known, [0.25, 0.5, 0.75])
        columns[name] = {
            "unit": units[name],
            "median": float(median),
            "mean": float(known.mean()),
            "quartiles": [float(low), float(high)],
            "n": len(known),
        }
    return columns
