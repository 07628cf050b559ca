"""The ``evaluate`` command and function: COV and MAT of generated conformers against references."""

import csv
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import rdkit
from rdkit import Chem

from conformergen import __version__
from conformergen.chem import n_rotors, perceive
from conformergen.datasets.readers import READERS, RawEnsemble, detect_format
from conformergen.errors import InputError, MoleculeError
from conformergen.evaluation import (
    GRID,
    METRICS,
    RULES,
    Score,
    ScoringTask,
    coverage_curve,
    molecule_values,
    paired,
    plain,
    score_molecule,
    summarise,
)
from conformergen.storage import committed
from conformergen.workflows.checks import CHECKS, CheckSettings, run_check
from conformergen.workflows.pool import map_molecules

REPORT_SCHEMA: Final = 2
#: Thresholds by data set, Å: QM9, Drugs, the older split.
THRESHOLDS: Final = (0.5, 0.75, 1.25)
MAIN_THRESHOLD: Final = 0.75
_TIMEOUT: Final = 1800.0


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Result of one comparison.

    Attributes:
        scores: One per reference molecule that could be scored, in reference order.
        tasks: The conformers behind each score.
        report: JSON-able summary and per-molecule values.
    """

    scores: list[Score]
    tasks: list[ScoringTask]
    report: dict[str, Any]


def read_ensembles(source: Path) -> list[RawEnsemble]:
    """All molecules of a file or folder; a single ``.h5`` of ``generate`` counts as a shard.

    Raises:
        InputError: For an unknown format.
    """
    return [raw for raw in READERS[detect_format(source)](source) if not raw.error]


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

    Heavy-atom, symmetry-aware RMSD, strict ``<``. Every reference molecule counts: one without samples has
    coverage 0 in the main rows and is left out of the ``succeeded_only`` rows.

    Args:
        generated: SDF, shards or any format of ``preprocess``; matched by SMILES, then name, then flat SMILES.
        reference: The same; None where ``generated`` holds the references too (GeoDiff's and ET-Flow's files do).
        thresholds: Å.
        checks: Entries of ``CHECKS``, each with its own table in the report.
        check_settings: How far the costly checks go.
        jobs: Worker processes; 0 for all cores.
        progress: Called with the name of the stage and 1 for each molecule.

    Raises:
        InputError: For unreadable files, unknown checks or what they need, or when no reference can be scored.
    """
    if not thresholds or min(thresholds) <= 0:
        raise InputError("--thresholds must be positive")
    if unknown := set(checks) - set(CHECKS):
        raise InputError(f"--checks {', '.join(sorted(unknown))}: not one of {', '.join(CHECKS)}")
    for name in checks:
        CHECKS[name].needs(check_settings)
    samples, references = _read(generated, reference)
    lookup = _Lookup(samples)
    tasks = [
        ScoringTask(name=r.name, smiles=_smiles(r), references=r.conformers, samples=lookup.take(r)) for r in references
    ]
    scores, scored_tasks, unscored = [], [], []
    for task, result in zip(tasks, map_molecules(score_molecule, tasks, jobs=jobs, timeout=_TIMEOUT), strict=True):
        progress("scoring", 1)
        if isinstance(result, MoleculeError):
            unscored.append({"name": task.name, "reason": result.reason, "message": str(result)})
        else:
            scores.append(result)
            scored_tasks.append(task)
    if not scores:
        raise InputError(f"{reference or generated}: no molecule could be scored ({unscored[0]['message']})")
    report = make_report(scores, unscored, thresholds, lookup.unused()) | {"generated_by": _makers(samples)}
    if checks:
        report["checks"] = {
            name: run_check(
                CHECKS[name], scored_tasks, check_settings, jobs=jobs, progress=partial(progress, f"check {name}")
            )
            for name in checks
        }
    return Evaluation(scores=scores, tasks=scored_tasks, report=report)


def _read(generated: "str | Path", reference: "str | Path | None") -> tuple[list[RawEnsemble], list[RawEnsemble]]:
    """Samples, and references from their own file or from that of the samples."""
    samples = read_ensembles(Path(generated))
    if reference is None:
        references = [replace(r, conformers=r.references) for r in samples if r.references]
        if not references:
            raise InputError(f"--reference is missing: {generated} holds samples only")
    else:
        references = [r for r in read_ensembles(Path(reference)) if r.conformers]
        if not references:
            raise InputError(f"{reference}: no reference conformers")
    return samples, references


def _makers(samples: list[RawEnsemble]) -> list[str]:
    """What the records say of their making: model, settings and seed, each kind once."""
    found = {
        " ".join(mol.GetProp(key) for key in ("model", "settings", "seed") if mol.HasProp(key))
        for raw in samples
        for mol in raw.conformers[:1]
    }
    return sorted(found - {""})


def make_report(
    scores: list[Score], unscored: list[dict[str, str]], thresholds: tuple[float, ...], n_unused: int
) -> dict[str, Any]:
    """Versioned, JSON-able report."""
    main = MAIN_THRESHOLD if MAIN_THRESHOLD in thresholds else thresholds[0]
    values = {name: molecule_values(scores, name, main) for name in METRICS}
    molecules = [
        {
            "name": s.name,
            "smiles": s.smiles,
            "n_references": s.rmsd.shape[0],
            "n_samples": s.rmsd.shape[1],
            "rotors": n_rotors(s.smiles),
            **{name: float(values[name][i]) for name in METRICS},
            "dropped_references": s.n_dropped,
            "stereo_differs": int((~s.reference_stereo).sum()),
            "bad_samples": s.n_bad_samples,
            "wrong_stereo_samples": int((~s.sample_stereo).sum()),
            "exact": s.exact,
        }
        for i, s in enumerate(scores)
    ]
    return plain(
        {
            "schema": REPORT_SCHEMA,
            "program": f"conformergen {__version__}",
            "rdkit": rdkit.__version__,
            "symmetrised_terminal_groups": True,
            "main_threshold": main,
            "n_requested": len(scores) + len(unscored),
            "n_scored": len(scores),
            "n_failed": sum(s.rmsd.shape[1] == 0 for s in scores),
            "n_without_clean_reference": len(unscored),
            "n_upper_bound": sum(not s.exact for s in scores),
            "n_samples": sum(s.rmsd.shape[1] for s in scores),
            "samples_per_molecule": _spread([s.rmsd.shape[1] for s in scores]),
            "n_short": sum(0 < s.rmsd.shape[1] < 2 * (s.rmsd.shape[0] + s.n_dropped) for s in scores),
            "n_long": sum(s.rmsd.shape[1] > 2 * (s.rmsd.shape[0] + s.n_dropped) for s in scores),
            "n_references": sum(s.rmsd.shape[0] for s in scores),
            "n_wrong_stereo_samples": sum(int((~s.sample_stereo).sum()) for s in scores),
            "n_unused_generated": n_unused,
            "units": {name: metric.unit for name, metric in METRICS.items()},
            **{rule: {f"{t:g}": dict(summarise(scores, t, rule=rule)) for t in thresholds} for rule in RULES},
            "curve": {
                "threshold": GRID.tolist(),
                "cov_r": coverage_curve(scores, "cov_r"),
                "cov_p": coverage_curve(scores, "cov_p"),
            },
            "molecules": molecules,
            "unscored": unscored,
        }
    )


def _spread(counts: list[int]) -> dict[str, float]:
    return {"least": min(counts), "median": float(np.median(counts)), "most": max(counts)}


def checks_table(report: dict[str, Any]) -> str:
    """Plain-text table of the checks; empty where none was made."""
    lines = []
    for name, check in report.get("checks", {}).items():
        lines.append(f"check {name}: {check['n_molecules']} molecules, {len(check['failed'])} without an answer")
        for column, values in check["columns"].items():
            if "passes_percent" in values:
                lines.append(f"  {column:32s} {values['passes_percent']:8.2f} % of {values['n']}")
            else:
                low, high = values["quartiles"]
                spread = f"quartiles {low:.3f}, {high:.3f}; mean {values['mean']:.3f}"
                lines.append(
                    f"  {column:32s} {values['median']:8.3f} {values['unit']} (median; {spread}) of {values['n']}"
                )
    return "\n".join(lines)


def table(report: dict[str, Any], *, label: str = "") -> str:
    """Plain-text table of the main rows."""
    lines = [f"{'':24s} {'COV-R %':>15s} {'MAT-R Å':>15s} {'COV-P %':>15s} {'MAT-P Å':>15s}  n"]
    titles = {"rows": "all", "succeeded_only": "succeeded", "geodiff": "2K, <=", "stereo_strict": "stereo-strict"}
    for kind, title in titles.items():
        for threshold, row in report[kind].items():
            cells = [_cell(row[name], name) for name in METRICS]
            n = row["cov_r"]["n_scored"]
            lines.append(f"{label + ' ' + title + ' @' + threshold:24s} {' '.join(cells)}  {n}")
    lines.append(
        f"mean / median; {report['n_scored']} molecules, {report['n_references']} references, "
        f"{report['n_samples']} samples, {report['n_failed']} without samples, "
        f"{report['n_wrong_stereo_samples']} samples of wrong stereo, "
        f"{report['n_upper_bound']} with RMSD upper bounds, {report['n_short']} with fewer than 2K samples, "
        f"{report['n_long']} with more"
    )
    return "\n".join(lines)


def comparison(reports: Mapping[str, dict[str, Any]]) -> str:
    """Plain-text table of several methods, each less the last one, paired by molecule.

    Raises:
        InputError: When two reports have no molecule in common.
    """
    names = list(reports)
    threshold = f"{reports[names[0]]['main_threshold']:g}"
    lines = [f"{'@' + threshold + ' Å':24s} {'COV-R %':>15s} {'MAT-R Å':>15s} {'COV-P %':>15s} {'MAT-P Å':>15s}  n"]
    for name, report in reports.items():
        row = report["rows"][threshold]
        lines.append(f"{name:24s} {' '.join(_cell(row[m], m) for m in METRICS)}  {row['cov_r']['n_scored']}")
    base = {m["name"]: m for m in reports[names[-1]]["molecules"]}
    for name in names[:-1]:
        own = {m["name"]: m for m in reports[name]["molecules"]}
        common = [key for key in own if key in base]
        if not common:
            raise InputError(f"{name} and {names[-1]} have no molecule in common")
        cells = []
        for metric in METRICS:
            first, second = ([_or_nan(side[k][metric]) for k in common] for side in (own, base))
            difference = paired(first, second)
            cells.append(f"{metric} {difference.mean:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}]")
        lines.append(f"{name} less {names[-1]}, {len(common)} molecules, 95 % interval: {'; '.join(cells)}")
    return "\n".join(lines)


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


def read_report(path: Path) -> dict[str, Any]:
    """Report written by ``evaluate -o``.

    Raises:
        InputError: When it is none, or of another schema.
    """
    try:
        report: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: {error}") from error
    if not isinstance(report, dict) or report.get("schema") != REPORT_SCHEMA:
        raise InputError(f"{path}: no report of schema {REPORT_SCHEMA}; write one with evaluate -o")
    return report


def write_molecules(path: Path, reports: Mapping[str, dict[str, Any]]) -> None:
    """One CSV line for each method and molecule."""
    rows = [{"method": name, **m} for name, report in reports.items() for m in report["molecules"]]
    with committed(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _cell(row: dict[str, float | None], metric: str) -> str:
    mean, median = (math.nan if row[k] is None else float(row[k] or 0.0) for k in ("mean", "median"))
    return f"{mean:7.1f} / {median:5.1f}" if METRICS[metric].unit == "%" else f"{mean:7.3f} / {median:5.3f}"


def _smiles(raw: RawEnsemble) -> str:
    return raw.smiles or Chem.MolToSmiles(perceive(raw.conformers[0]))


def _keys(raw: RawEnsemble) -> tuple[str, str, str]:
    """Isomeric SMILES, name, flat SMILES."""
    mol = Chem.MolFromSmiles(_smiles(raw))
    if mol is None:
        return "", raw.name, ""
    return Chem.MolToSmiles(mol), raw.name, Chem.MolToSmiles(mol, isomericSmiles=False)


class _Lookup:
    """Generated ensembles by isomeric SMILES, name and flat SMILES, in that order of trust."""

    def __init__(self, generated: list[RawEnsemble]) -> None:
        self._generated = generated
        self._index: tuple[dict[str, list[int]], ...] = ({}, {}, {})
        self._flat: list[str] = []
        self._used: set[int] = set()
        for position, raw in enumerate(generated):
            keys = _keys(raw)
            self._flat.append(keys[2])
            for table_, key in zip(self._index, keys, strict=True):
                if key:
                    table_.setdefault(key, []).append(position)

    def take(self, reference: RawEnsemble) -> list[Chem.Mol]:
        """Samples of a reference; empty where there is none."""
        keys = _keys(reference)
        for table_, key in zip(self._index, keys, strict=True):
            found = [i for i in table_.get(key, []) if self._flat[i] == keys[2]]
            if found:
                self._used.update(found)
                return [mol for i in found for mol in self._generated[i].conformers]
        return []

    def unused(self) -> int:
        """Generated molecules that no reference asked for."""
        return len(self._generated) - len(self._used)
