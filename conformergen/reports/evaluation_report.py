"""The HTML report of an evaluation: table, COV curves, errors against flexibility, checks, and overlays in 3D."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from rdkit import Chem

from conformergen.errors import InputError
from conformergen.evaluation.checks.interface import Column
from conformergen.evaluation.metrics import METRICS
from conformergen.evaluation.report import Report
from conformergen.evaluation.scoring import Score, nearest_overlay
from conformergen.reports.pages import render_page, script_json
from conformergen.runtime.files import commit_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Largest number of molecules shown in 3D.
_MAX_OVERLAYS: Final = 10


def write_html(path: Path, reports: Mapping[str, Report], scores: Mapping[str, Sequence[Score]]) -> None:
    """Write the report of one or several methods that were scored against the same references.

    Args:
        path: File.
        reports: Report of each method.
        scores: Scores of each method, for the overlays.

    Raises:
        InputError: Where matplotlib or Jinja2 is not installed.
    """
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise InputError("--html needs the extra 'report': pip install 'conformergen[report]'") from error
    first = next(iter(reports.values()))
    facts = (
        f"{first.program}, RDKit {first.rdkit_version}; {len(first.molecules)} reference molecules, "
        f"{first.n_references} references; samples: "
        + ", ".join(f"{name} {report.n_samples}" for name, report in reports.items())
    )
    html = render_page(
        "report.html.j2",
        needed_by="--html",
        facts=facts,
        threshold=first.threshold,
        rows=_rows(reports, first.threshold),
        curve_html=_curve(reports),
        flexibility_html=_flexibility(reports),
        checks=_checks(reports),
        generated_by={name: "; ".join(report.generated_by) for name, report in reports.items()},
        names=list(reports),
        molecules=_molecules(reports),
        overlays_html=script_json(_overlays(scores)),
    )
    commit_bytes(path, html.encode())


def _number(value: float, digits: int) -> str:
    return "–" if np.isnan(value) else f"{value:.{digits}f}"


def _rows(reports: Mapping[str, Report], threshold: str) -> list[dict[str, object]]:
    """Cells of the main table; the best mean of each metric is marked."""
    best = {}
    for name, metric in METRICS.items():
        means = [r.rows["rows"][threshold][name].mean for r in reports.values()]
        known = [m for m in means if not np.isnan(m)]
        best[name] = (max if metric.higher_is_better else min)(known, default=None)
    rows: list[dict[str, object]] = []
    for method, report in reports.items():
        cells = []
        for name, metric in METRICS.items():
            row = report.rows["rows"][threshold][name]
            digits = 1 if metric.unit == "%" else 3
            texts: dict[str, object] = {k: _number(getattr(row, k), digits) for k in ("mean", "median", "low", "high")}
            cells.append(texts | {"best": row.mean == best[name]})
        counts = {"n_scored": len(report.molecules), "n_failed": report.n_failed}
        rows.append({"name": method, "cells": cells, **counts})
    return rows


def _curve(reports: Mapping[str, Report]) -> str:
    """COV against the threshold, recall and precision side by side, as SVG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.2, 3.6), layout="constrained")
    for axes, (key, title) in zip(figure.subplots(1, 2), (("cov_r", "recall"), ("cov_p", "precision")), strict=True):
        for method, report in reports.items():
            axes.plot(report.curve["threshold"], report.curve[key], label=method)
        axes.set(xlabel="threshold, Å", ylabel=f"COV {title}, %", ylim=(0, 101), xlim=(0, 2.4))
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    return _svg(figure)


def _flexibility(reports: Mapping[str, Report]) -> str:
    """MAT of each molecule against its rotatable bonds, and the mean at each number of them, as SVG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.2, 3.6), layout="constrained")
    for axes, key in zip(figure.subplots(1, 2), ("mat_r", "mat_p"), strict=True):
        for shift, (method, report) in enumerate(reports.items()):
            points = [(m.n_rotatable_bonds, m.values[key]) for m in report.molecules if not np.isnan(m.values[key])]
            if not points:
                continue
            bonds, values = np.array(points, dtype=np.float64).T
            colour = f"C{shift % 10}"
            offset = 0.12 * (shift - 0.5 * (len(reports) - 1))
            axes.plot(bonds + offset, values, ".", color=colour, alpha=0.45)
            numbers = np.unique(bonds)
            axes.plot(numbers, [values[bonds == b].mean() for b in numbers], color=colour, label=method)
        axes.set(xlabel="rotatable bonds", ylabel=f"{key.upper().replace('_', '-')}, Å")
        axes.set_ylim(bottom=0.0)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    return _svg(figure)


def _svg(figure: "Figure") -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def _checks(reports: Mapping[str, Report]) -> list[dict[str, object]]:
    """A table for each check: a row for each of its columns, a cell for each method."""
    tables: list[dict[str, object]] = []
    for check in dict.fromkeys(name for report in reports.values() for name in report.checks):
        parts = [report.checks[check].columns if check in report.checks else {} for report in reports.values()]
        rows = [
            {"name": column.replace("_", " "), "cells": [_check_cell(part.get(column)) for part in parts]}
            for column in dict.fromkeys(name for part in parts for name in part)
        ]
        tables.append({"name": check, "rows": rows})
    return tables


def _check_cell(column: Column | None) -> str:
    if column is None:
        return "–"
    if column.passes_percent is not None:
        return f"{column.passes_percent:.2f} % of {column.n}"
    assert column.quartiles is not None
    low, high = column.quartiles
    return f"{column.median:.3g} {column.unit} [{low:.3g}, {high:.3g}]"


def _molecules(reports: Mapping[str, Report]) -> list[dict[str, object]]:
    """MAT of each molecule under each method."""
    tables = [{m.name: m for m in report.molecules} for report in reports.values()]
    rows: list[dict[str, object]] = []
    for name, molecule in tables[0].items():
        values = [_number(t[name].values[k], 3) if name in t else "–" for t in tables for k in ("mat_r", "mat_p")]
        rows.append({"name": name, "n_references": molecule.n_references, "values": values})
    return rows


def _overlays(scores: Mapping[str, Sequence[Score]]) -> list[dict[str, object]]:
    """For the molecules with the largest MAT-R under the first method, the reference that is matched worst.

    The same reference is shown under every method, with its nearest sample there.
    """
    first = next(iter(scores.values()))
    worst_first = sorted((s for s in first if s.rmsd.shape[1]), key=lambda s: -float(s.rmsd.min(1).mean()))
    shown: list[dict[str, object]] = []
    for score in worst_first[:_MAX_OVERLAYS]:
        reference = int(score.rmsd.min(1).argmax())
        for method, others in scores.items():
            other = next((s for s in others if s.name == score.name), None)
            overlay = None if other is None else nearest_overlay(other, reference)
            if other is not None and overlay is not None:
                shown.append(
                    {
                        "name": other.name,
                        "method": method,
                        "rmsd": overlay.rmsd,
                        "reference": Chem.MolToMolBlock(overlay.reference),
                        "sample": Chem.MolToMolBlock(overlay.sample),
                    }
                )
    return shown
