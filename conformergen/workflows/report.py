"""One self-contained HTML file: table, COV curves, overlays in 3D. Works offline; 3Dmol.js is inlined."""

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from rdkit import Chem

from conformergen.errors import InputError
from conformergen.evaluation import METRICS, nearest_overlay
from conformergen.storage import commit_bytes
from conformergen.workflows.evaluate import Evaluation

_ASSETS: Final = Path(__file__).parent / "assets"
#: Molecules shown in 3D at most.
_MAX_OVERLAYS: Final = 10


def write_html(path: Path, results: Mapping[str, Evaluation]) -> None:
    """Write the report of one or several methods scored against the same references.

    Raises:
        InputError: Where matplotlib or Jinja2 is not installed.
    """
    try:
        from jinja2 import Environment
        from markupsafe import Markup
    except ImportError as error:
        raise InputError("--html needs the extra 'report': pip install 'conformergen[report]'") from error
    reports = {name: result.report for name, result in results.items()}
    first = next(iter(reports.values()))
    threshold = f"{first['main_threshold']:g}"
    facts = (
        f"{first['program']}, RDKit {first['rdkit']}; {first['n_scored']} reference molecules, "
        f"{first['n_references']} references; samples: "
        + ", ".join(f"{name} {report['n_samples']}" for name, report in reports.items())
    )
    template = Environment(autoescape=True).from_string((_ASSETS / "report.html.j2").read_text())
    html = template.render(
        facts=facts,
        threshold=threshold,
        rows=_rows(reports, threshold),
        curve=Markup(_curve(reports)),
        flexibility=Markup(_flexibility(reports)),
        checks=_checks(reports),
        generated_by={name: "; ".join(report.get("generated_by", [])) for name, report in reports.items()},
        names=list(reports),
        molecules=_molecules(reports),
        overlays=Markup(_script_json(_overlays(results))),
        library=Markup((_ASSETS / "3Dmol-min.js").read_text()),
    )
    commit_bytes(path, html.encode())


def _script_json(value: Any) -> str:
    """JSON that cannot end the script element it stands in."""
    return json.dumps(value).replace("<", "\\u003c")


def _digits(name: str) -> int:
    return 1 if METRICS[name].unit == "%" else 3


def _format(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _rows(reports: Mapping[str, dict[str, Any]], threshold: str) -> list[dict[str, Any]]:
    best = {}
    for name, metric in METRICS.items():
        means = [r["rows"][threshold][name]["mean"] for r in reports.values()]
        known = [m for m in means if m is not None]
        best[name] = (max if metric.higher_is_better else min)(known, default=None)
    rows = []
    for method, report in reports.items():
        cells = []
        for name in METRICS:
            row = report["rows"][threshold][name]
            texts = {k: _format(row[k], _digits(name)) for k in ("mean", "median", "low", "high")}
            cells.append(texts | {"best": row["mean"] is not None and row["mean"] == best[name]})
        rows.append({"name": method, "cells": cells, "n_scored": report["n_scored"], "n_failed": report["n_failed"]})
    return rows


def _curve(reports: Mapping[str, dict[str, Any]]) -> str:
    """COV against the threshold, recall and precision side by side, as SVG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.2, 3.6), layout="constrained")
    for axes, (key, title) in zip(figure.subplots(1, 2), (("cov_r", "recall"), ("cov_p", "precision")), strict=True):
        for method, report in reports.items():
            axes.plot(report["curve"]["threshold"], report["curve"][key], label=method)
        axes.set(xlabel="threshold, Å", ylabel=f"COV {title}, %", ylim=(0, 101), xlim=(0, 2.4))
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    return _svg(figure)


def _flexibility(reports: Mapping[str, dict[str, Any]]) -> str:
    """MAT of each molecule against its rotatable bonds, and the mean at each number of them, as SVG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.2, 3.6), layout="constrained")
    for axes, key in zip(figure.subplots(1, 2), ("mat_r", "mat_p"), strict=True):
        for shift, (method, report) in enumerate(reports.items()):
            points = [(m["rotors"], m[key]) for m in report["molecules"] if m[key] is not None]
            if not points:
                continue
            rotors, values = np.array(points, dtype=np.float64).T
            colour = f"C{shift % 10}"
            offset = 0.12 * (shift - 0.5 * (len(reports) - 1))
            axes.plot(rotors + offset, values, ".", color=colour, alpha=0.45)
            levels = np.unique(rotors)
            axes.plot(levels, [values[rotors == r].mean() for r in levels], color=colour, label=method)
        axes.set(xlabel="rotatable bonds", ylabel=f"{key.upper().replace('_', '-')}, Å")
        axes.set_ylim(bottom=0.0)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    return _svg(figure)


def _svg(figure: Any) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def _checks(reports: Mapping[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """A table for each check: a row for each column of it, a cell for each method."""
    tables = []
    for check in dict.fromkeys(name for report in reports.values() for name in report.get("checks", {})):
        parts = [report.get("checks", {}).get(check, {}).get("columns", {}) for report in reports.values()]
        rows = []
        for column in dict.fromkeys(name for part in parts for name in part):
            rows.append({"name": column.replace("_", " "), "cells": [_check_cell(part.get(column)) for part in parts]})
        tables.append({"name": check, "rows": rows})
    return tables


def _check_cell(values: dict[str, Any] | None) -> str:
    if values is None:
        return "–"
    if "passes_percent" in values:
        return f"{values['passes_percent']:.2f} % of {values['n']}"
    low, high = values["quartiles"]
    return f"{values['median']:.3g} {values['unit']} [{low:.3g}, {high:.3g}]"


def _molecules(reports: Mapping[str, dict[str, Any]]) -> list[dict[str, Any]]:
    tables = [{m["name"]: m for m in report["molecules"]} for report in reports.values()]
    rows = []
    for name, molecule in tables[0].items():
        values = [_format(t[name][k], 3) if name in t else "–" for t in tables for k in ("mat_r", "mat_p")]
        rows.append({"name": name, "n_references": molecule["n_references"], "values": values})
    return rows


def _overlays(results: Mapping[str, Evaluation]) -> list[dict[str, Any]]:
    """Of the molecules with the largest MAT-R under the first method: the reference that is matched worst.

    The same reference is shown under every method, with its nearest sample there.
    """
    first = next(iter(results.values()))
    indices = [i for i, score in enumerate(first.scores) if score.rmsd.shape[1]]
    indices.sort(key=lambda i: -float(first.scores[i].rmsd.min(1).mean()))
    shown = []
    for index in indices[:_MAX_OVERLAYS]:
        worst = int(first.scores[index].rmsd.min(1).argmax())
        for method, result in results.items():
            task = next((t for t in result.tasks if t.name == first.tasks[index].name), None)
            overlay = None if task is None else nearest_overlay(task, worst)
            if task is not None and overlay is not None:
                shown.append(
                    {
                        "name": task.name,
                        "method": method,
                        "rmsd": overlay.rmsd,
                        "reference": Chem.MolToMolBlock(overlay.reference),
                        "sample": Chem.MolToMolBlock(overlay.sample),
                    }
                )
    return shown
