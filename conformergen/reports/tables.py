"""Reports as text and CSV."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from conformergen.errors import InputError
from conformergen.evaluation.checks import CheckTable
from conformergen.evaluation.metrics import METRICS
from conformergen.evaluation.report import Report, to_jsonable
from conformergen.evaluation.summary import Row, paired
from conformergen.runtime.files import committed

#: Titles of the rules in the table.
_TITLES: Final = {"rows": "all", "succeeded_only": "succeeded", "geodiff": "2K, <=", "stereo_strict": "stereo-strict"}
#: Titles of the columns.
_COLUMNS: Final = f"{'COV-R %':>15s} {'MAT-R Å':>15s} {'COV-P %':>15s} {'MAT-P Å':>15s}  n"


def report_table(report: Report, *, label: str = "") -> str:
    """Rows of all rules and thresholds, mean and median over molecules."""
    lines = [f"{'':24s} {_COLUMNS}"]
    for rule, title in _TITLES.items():
        for threshold, row in report.rows[rule].items():
            cells = [_cell(row[name], name) for name in METRICS]
            n = row["cov_r"].n_scored
            lines.append(f"{label + ' ' + title + ' @' + threshold:24s} {' '.join(cells)}  {n}")
    lines.append(
        f"mean / median; {len(report.molecules)} molecules, {report.n_references} references, "
        f"{report.n_samples} samples, {report.n_failed} without samples, "
        f"{report.n_wrong_stereo_samples} samples of wrong stereo, "
        f"{report.n_upper_bound} with RMSD upper bounds, {report.n_short} with fewer than 2K samples, "
        f"{report.n_long} with more"
    )
    return "\n".join(lines)


def checks_table(checks: Mapping[str, CheckTable]) -> str:
    """Columns of the checks; empty where none was run."""
    lines = []
    for name, check in checks.items():
        lines.append(f"check {name}: {len(check.molecules)} molecules, {len(check.failed)} without an answer")
        for title, column in check.columns.items():
            if column.passes_percent is not None:
                lines.append(f"  {title:32s} {column.passes_percent:8.2f} % of {column.n}")
            elif column.quartiles is not None:
                low, high = column.quartiles
                spread = f"quartiles {low:.3f}, {high:.3f}; mean {column.mean:.3f}"
                lines.append(f"  {title:32s} {column.median:8.3f} {column.unit} (median; {spread}) of {column.n}")
    return "\n".join(lines)


def comparison_table(reports: Mapping[str, Report]) -> str:
    """Main rows of several methods, and the paired differences of each method from the last one.

    Raises:
        InputError: When two reports have no molecule in common.
    """
    names = list(reports)
    threshold = reports[names[0]].threshold
    lines = [f"{'@' + threshold + ' Å':24s} {_COLUMNS}"]
    for name, report in reports.items():
        row = report.rows["rows"][threshold]
        lines.append(f"{name:24s} {' '.join(_cell(row[m], m) for m in METRICS)}  {row['cov_r'].n_scored}")
    base = {m.name: m for m in reports[names[-1]].molecules}
    for name in names[:-1]:
        own = {m.name: m for m in reports[name].molecules}
        common = [key for key in own if key in base]
        if not common:
            raise InputError(f"{name} and {names[-1]} have no molecule in common")
        cells = []
        for metric in METRICS:
            first, second = ([side[k].values[metric] for k in common] for side in (own, base))
            difference = paired(first, second)
            cells.append(f"{metric} {difference.mean:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}]")
        lines.append(f"{name} less {names[-1]}, {len(common)} molecules, 95 % interval: {'; '.join(cells)}")
    return "\n".join(lines)


def write_molecules(path: Path, reports: Mapping[str, Report]) -> None:
    """Write one CSV line for each method and molecule."""
    rows: Sequence[Mapping[str, object]] = [
        to_jsonable({"method": name, **m.to_json()}) for name, report in reports.items() for m in report.molecules
    ]
    with committed(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _cell(row: Row, metric: str) -> str:
    digits = 1 if METRICS[metric].unit == "%" else 3
    return f"{row.mean:7.{digits}f} / {row.median:5.{digits}f}"
