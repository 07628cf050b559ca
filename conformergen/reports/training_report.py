"""The report of a training run: ``relaxation.png`` and a self-contained ``report.html`` in the run folder."""

import base64
import csv
import html
import io
import json
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from conformergen.errors import InputError
from conformergen.training.logs import METRICS, RELAXATION

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: File name of the plot of the betas.
TRACE: Final = "relaxation.png"
#: File name of the report.
REPORT: Final = "report.html"
#: Style sheet of the report.
_STYLE: Final = (
    "body{font:15px/1.45 system-ui,sans-serif;color:#1d2733;max-width:980px;margin:24px auto;padding:0 16px}"
    "table{border-collapse:collapse}td,th{padding:4px 10px;border-bottom:1px solid #dde3ea;text-align:right}"
    "td:first-child,th:first-child{text-align:left}img{max-width:100%}h1{font-size:22px}h2{font-size:17px}"
)


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _curve(rows: list[dict[str, str]], name: str) -> tuple[list[int], list[float]]:
    kept = [r for r in rows if r.get(name)]
    return [int(r["step"]) for r in kept], [float(r[name]) for r in kept]


def _png(figure: "Figure") -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def _losses(rows: list[dict[str, str]]) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, label in (("loss", "training"), ("val_loss", "validation, beta = 0"), ("val_loss_relaxed", "validation")):
        left.plot(*_curve(rows, name), label=label, lw=1.2, marker="" if name == "loss" else ".")
    left.set(xlabel="step", ylabel="loss")
    left.legend(frameon=False, fontsize=8)
    right.semilogy(*_curve(rows, "equivariance_error"), marker=".", lw=1.2, color="#b3541e")
    right.set(xlabel="step", ylabel="equivariance error of the sampling, Å")
    return figure


def _trace(rows: list[dict[str, str]], metrics: list[dict[str, str]]) -> "Figure":
    """Beta against the step: a panel for each block, a line for each layer, and the learning rate below."""
    from matplotlib.figure import Figure

    lines: dict[str, dict[int, list[tuple[int, float]]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        lines[row["block"]][int(row["layer"])].append((int(row["step"]), float(row["beta"])))
    figure = Figure(figsize=(9, 1.7 * (len(lines) + 1)), layout="constrained")
    axes = figure.subplots(len(lines) + 1, 1, sharex=True)
    for axis, (block, layers) in zip(axes, lines.items(), strict=False):
        for layer, points in layers.items():
            axis.plot(*zip(*points, strict=True), lw=1.2, color=f"C{layer % 10}", label=f"layer {layer}")
        axis.set_ylabel(f"beta {block}")
    axes[0].legend(frameon=False, fontsize=8, ncols=4)
    axes[-1].plot(*_curve(metrics, "learning_rate"), color="0.4", lw=1.2)
    axes[-1].set(xlabel="step", ylabel="learning rate")
    return figure


def write_training_report(run: Path) -> None:
    """Write the curves of a run; a network without relaxed branches has no trace of beta.

    Raises:
        InputError: Where matplotlib is not installed.
    """
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise InputError("no training report: pip install 'conformergen[report]'") from error
    metrics, betas = _rows(run / METRICS), _rows(run / RELAXATION)
    if not metrics:
        return
    images = {"Losses": _png(_losses(metrics))}
    if betas:
        images["Beta of each block"] = _png(_trace(betas, metrics))
        (run / TRACE).write_bytes(images["Beta of each block"])
    config = json.loads((run / "config.json").read_text())
    (run / REPORT).write_text(_page(run.name, metrics[-1], images, config), encoding="utf-8")


def _page(name: str, last: dict[str, str], images: dict[str, bytes], config: dict[str, Any]) -> str:
    shown = {key.replace("_", " "): float(value) for key, value in last.items() if value and key != "layer_betas"}
    cells = "".join(f"<tr><td>{key}</td><td>{value:.4g}</td></tr>" for key, value in shown.items())
    pictures = "".join(
        f'<h2>{title}</h2><img alt="{title}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'
        for title, png in images.items()
    )
    settings = html.escape(json.dumps(config, indent=1))
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(name)}</title>'
        f"<style>{_STYLE}</style></head><body><h1>Training run {html.escape(name)}</h1>"
        f"<h2>Last line of the log</h2><table>{cells}</table>{pictures}"
        f"<details><summary>Settings</summary><pre>{settings}</pre></details></body></html>"
    )
