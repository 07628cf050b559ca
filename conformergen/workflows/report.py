"""One self-contained HTML file: table, COV curves, overlays in 3D. Works offline; 3Dmol.js is inlined."""

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from rdkit import Chem

from conformergen.errors import InputError
from conformergen.evaluation import METRICS, nearest_overlay
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
        names=list(reports),
        molecules=_molecules(reports),
        overlays=Markup(_script_json(_overlays(results))),
        library=Markup((_ASSETS / "3Dmol-min.js").read_text()),
    )
    path.write_text(html, encoding="utf-8")


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
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def _molecules(reports: Mapping[str, dict[str, Any]]) -> list[dict[str, Any]]:
    tables = [{m["name"]: m for m in report["molecules"]} for report in reports.values()]
    rows = []
    for name, molecule in tables[0].items():
        values = [_format(t[name][k], 3) if name in t else "–" for t in tables for k in ("mat_r", "mat_p")]
        rows.append({"name": name, "n_references": molecule["n_references"], "values": values})
    return rows


def _overlays(results: Mapping[str, Evaluation]) -> list[dict[str, Any]]:
    """First reference (the lowest in energy in GEOM and in our own sets) and its nearest sample."""
    shown = []
    for index in range(min(_MAX_OVERLAYS, *(len(r.tasks) for r in results.values()))):
        for method, result in results.items():
            task = result.tasks[index]
            overlay = nearest_overlay(task, 0)
            if overlay is not None:
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
