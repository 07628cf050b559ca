"""What a check is, and how its answers are summed up."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Protocol, runtime_checkable

import numpy as np

from conformergen.errors import InputError, MoleculeError
from conformergen.evaluation.scoring import Score
from conformergen.runtime.workers import map_molecules


@dataclass(frozen=True, kw_only=True)
class CheckSettings:
    """How far the costly checks go.

    Attributes:
        max_samples: Largest number of samples of a molecule that are checked, evenly spread.
        engine: Entry of ``refinement.engines.ENGINES``.
    """

    max_samples: int = 10
    engine: str = "auto"

    def __post_init__(self) -> None:
        if self.max_samples < 1:
            raise InputError("must be at least 1", setting="max_samples")

    def spread(self, n: int) -> np.ndarray:
        """Indices of at most ``max_samples`` of n samples."""
        return np.unique(np.linspace(0, n - 1, min(n, self.max_samples)).round().astype(np.int64))


@dataclass(frozen=True, eq=False, kw_only=True)
class Checked:
    """One molecule's answers.

    Attributes:
        samples: For each column a value for each checked sample; booleans are passes, NaN is no answer.
        molecule: Values of the molecule as a whole.
    """

    samples: dict[str, np.ndarray] = field(default_factory=dict)
    molecule: dict[str, float] = field(default_factory=dict)


@runtime_checkable
class CheckFunction(Protocol):
    """Check the samples of one molecule."""

    def __call__(self, score: Score, settings: CheckSettings) -> Checked:
        """Answers of one molecule.

        Raises:
            MoleculeError: When there is no answer.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Check:
    """One kind of check.

    Attributes:
        run: Checks the samples of one molecule.
        units: Unit of each numeric column.
        needs: Raises ``InputError`` where something is not installed.
    """

    run: CheckFunction
    units: dict[str, str] = field(default_factory=dict)
    needs: Callable[[CheckSettings], None] = lambda settings: None


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column of a check over all samples or molecules.

    Attributes:
        n: Number of answers.
        passes_percent: Pass rate of a column of booleans, %.
        unit: Unit of a numeric column.
        median: Median of a numeric column.
        mean: Mean of a numeric column.
        quartiles: Quartiles of a numeric column.
    """

    n: int
    passes_percent: float | None = None
    unit: str = ""
    median: float | None = None
    mean: float | None = None
    quartiles: tuple[float, float] | None = None

    def to_json(self) -> dict[str, object]:
        """Plain data: only the values of the kind of column."""
        if self.passes_percent is not None:
            return {"passes_percent": self.passes_percent, "n": self.n}
        values = asdict(self)
        del values["passes_percent"]
        return values


@dataclass(frozen=True, kw_only=True)
class CheckTable:
    """Result of one check.

    Attributes:
        columns: Summary of each column.
        molecules: Name of each molecule and means of its values.
        failed: Name, reason code and message of each molecule without an answer.
    """

    columns: Mapping[str, Column]
    molecules: Sequence[Mapping[str, str | float]]
    failed: Sequence[Mapping[str, str]]

    def to_json(self) -> dict[str, object]:
        """Plain data."""
        return {
            "n_molecules": len(self.molecules),
            "failed": list(self.failed),
            "columns": {name: column.to_json() for name, column in self.columns.items()},
            "molecules": list(self.molecules),
        }


def run_check(
    check: Check,
    scores: Sequence[Score],
    settings: CheckSettings,
    *,
    jobs: int = 1,
    timeout: float = 3600.0,
    progress: Callable[[int], None] = lambda n: None,
) -> CheckTable:
    """Run one check on all molecules that have samples.

    Raises:
        InputError: Where the check needs something that is not installed.
    """
    check.needs(settings)
    asked = [score for score in scores if score.rmsd.shape[1]]
    done: list[tuple[str, Checked]] = []
    failed: list[dict[str, str]] = []
    work = partial(check.run, settings=settings)
    for score, result in zip(asked, map_molecules(work, asked, jobs=jobs, timeout=timeout), strict=True):
        progress(1)
        if isinstance(result, MoleculeError):
            failed.append({"name": score.name, "reason": result.reason, "message": str(result)})
        else:
            done.append((score.name, result))
    of_samples = _columns([c.samples for _, c in done], check.units)
    of_molecules = _columns([{k: np.array([v]) for k, v in c.molecule.items()} for _, c in done], check.units)
    return CheckTable(
        columns=of_samples | of_molecules,
        molecules=[{"name": name, **{k: _mean(v) for k, v in c.samples.items()}, **c.molecule} for name, c in done],
        failed=failed,
    )


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values.astype(np.float64))]
    return float(known.mean()) if len(known) else float("nan")


def _columns(parts: Sequence[Mapping[str, np.ndarray]], units: Mapping[str, str]) -> dict[str, Column]:
    """Pass rates of boolean columns, and median, mean and quartiles of numeric ones."""
    columns: dict[str, Column] = {}
    for name in dict.fromkeys(key for part in parts for key in part):
        arrays = [part[name] for part in parts if name in part]
        values = np.concatenate([a.astype(np.float64) for a in arrays])
        known = values[~np.isnan(values)]
        if len(known) == 0:
            continue
        if name not in units:
            columns[name] = Column(passes_percent=100.0 * float(known.mean()), n=len(known))
            continue
        low, median, high = np.quantile(known, [0.25, 0.5, 0.75])
        columns[name] = Column(
            unit=units[name],
            median=float(median),
            mean=float(known.mean()),
            quartiles=(float(low), float(high)),
            n=len(known),
        )
    return columns
