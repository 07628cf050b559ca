"""The ``evaluate`` command and function: COV and MAT of generated conformers against references."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from conformergen.errors import InputError, MoleculeError
from conformergen.evaluation.checks import CHECKS, CheckSettings, run_check
from conformergen.evaluation.matching import Matcher, provenance_of, read_both
from conformergen.evaluation.report import THRESHOLDS, Report, make_report
from conformergen.evaluation.scoring import Score, score_molecule
from conformergen.runtime.workers import map_molecules

#: Time limit of the scoring of one molecule, seconds of wall time.
_TIMEOUT: Final = 1800.0


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Result of one comparison.

    Attributes:
        scores: One for each reference molecule that could be scored, in reference order.
        result: Summary and values of each molecule.
    """

    scores: list[Score]
    result: Report

    @property
    def report(self) -> dict[str, Any]:
        """The summary as plain data, as in the JSON file of ``evaluate -o``."""
        return self.result.to_json()


def evaluate(
    generated: "str | Path",
    reference: "str | Path | None" = None,
    *,
    thresholds: tuple[float, ...] = THRESHOLDS,
    checks: Sequence[str] = (),
    check_settings: CheckSettings = CheckSettings(),  # noqa: B008  frozen
    jobs: int = 1,
    progress: Callable[[str, int], None] = lambda stage, n: None,
) -> Evaluation:
    """Score generated conformers against references.

    RMSDs are symmetry-aware, of heavy atoms, and compared by strict ``<``. Every reference molecule counts: one without
    samples has coverage 0 in the main rows and is left out of the ``succeeded_only`` rows.

    Args:
        generated: SDF, shards or any format of ``preprocess``; matched by SMILES, then name, then SMILES without
            stereo.
        reference: The same; None where ``generated`` contains the references too, as files of GeoDiff and ET-Flow do.
        thresholds: Thresholds of COV, Å.
        checks: Entries of ``CHECKS``, each with its own table in the report.
        check_settings: Extent of the costly checks.
        jobs: Worker processes; 0 for all cores.
        progress: Called with the name of the stage and 1 for each molecule.

    Raises:
        InputError: For unreadable files, unknown checks or missing requirements of a check, or when no reference can be
            scored.
    """
    if not thresholds or min(thresholds) <= 0:
        raise InputError("must be positive", setting="thresholds")
    if unknown := set(checks) - set(CHECKS):
        raise InputError(f"{', '.join(sorted(unknown))} is not one of {', '.join(CHECKS)}", setting="checks")
    for name in checks:
        CHECKS[name].needs(check_settings)
    samples, references = read_both(generated, reference)
    matcher = Matcher(samples)
    tasks = [matcher.task(r) for r in references]
    scores: list[Score] = []
    unscored: list[dict[str, str]] = []
    for task, result in zip(tasks, map_molecules(score_molecule, tasks, jobs=jobs, timeout=_TIMEOUT), strict=True):
        progress("scoring", 1)
        if isinstance(result, MoleculeError):
            unscored.append({"name": task.name, "reason": result.reason, "message": str(result)})
        else:
            scores.append(result)
    if not scores:
        raise InputError(f"{reference or generated}: no molecule could be scored ({unscored[0]['message']})")
    tables = {
        name: run_check(CHECKS[name], scores, check_settings, jobs=jobs, progress=partial(progress, f"check {name}"))
        for name in checks
    }
    report = make_report(
        scores,
        unscored,
        thresholds,
        n_unused_generated=matcher.n_unused,
        generated_by=provenance_of(samples),
        checks=tables,
    )
    return Evaluation(scores=scores, result=report)
