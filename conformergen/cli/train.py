"""``conformergen train``."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from conformergen.cli.app import app, log, log_json, progress
from conformergen.cli.options import Device, DryRun
from conformergen.errors import InputError

if TYPE_CHECKING:
    from conformergen.training.loop import LogLine

#: Seconds of each unit.
_UNITS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0}


def seconds(text: str) -> float:
    """Duration such as ``90m``, ``2h`` or ``45`` (seconds).

    Raises:
        InputError: For anything else.
    """
    number, unit = (text[:-1], text[-1]) if text[-1:] in _UNITS else (text, "s")
    try:
        value = float(number) * _UNITS[unit]
    except ValueError:
        value = -1.0
    if value <= 0:
        raise InputError(f"{text!r} is not a duration such as 90m, 2h or 45s", setting="time_limit")
    return value


@app.command()
def train(
    data: Annotated[list[Path], typer.Option("--data", help="Shard folder; may be given several times.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Run folder.")],
    preset: Annotated[str, typer.Option(help="tiny, small or drugs.")] = "small",
    config: Annotated[Path | None, typer.Option(help="TOML file over the preset.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="key=value that overrides both, such as training.learning_rate=5e-4."),
    ] = None,
    relaxation: Annotated[
        str | None,
        typer.Option(
            help="none, fixed, anneal, ace, remul, rpp, learned or recm (RECM-style, after the abstract of "
            "arXiv 2602.02853)."
        ),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Optimiser steps.")] = None,
    time_limit: Annotated[str | None, typer.Option(help="Stop with a checkpoint after 90m, 2h, ...")] = None,
    init: Annotated[str | None, typer.Option(help="Start from the weights of this checkpoint.")] = None,
    device: Device = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Continue from the newest good checkpoint.")] = False,
    dry_run: DryRun = False,
) -> None:
    """Train a denoiser on shards."""
    from conformergen.commands.train import train as run
    from conformergen.config import load_config
    from conformergen.datasets.folders import load_sets

    overrides = list(set_ or [])
    if relaxation is not None:
        overrides.append(f"network.relaxation.mode={relaxation}")
    if steps is not None:
        overrides.append(f"training.steps={steps}")
    settings = load_config(preset, config, overrides)
    if dry_run:
        counts = {part: len(load_sets(data, part)) for part in ("train", "val")}
        log_json({"molecules": counts, "steps": settings.training.steps})
        return
    limit = None if time_limit is None else seconds(time_limit)
    with progress("steps", settings.training.steps) as advance:
        report = _Report(advance)
        summary = run(
            data, out, settings, device=device, time_limit=limit, resume=resume, init=init, report=report, warn=log
        )
    log_json(
        {
            "step": summary.step,
            "finished": summary.finished,
            "val_loss": summary.val_loss,
            "skipped_steps": summary.n_skipped,
        }
    )


class _Report:
    """Moves the progress bar and prints each log line."""

    def __init__(self, advance: Callable[[int], None]) -> None:
        self._advance = advance
        self._step = 0

    def __call__(self, line: "LogLine") -> None:
        self._advance(line.step - self._step)
        self._step = line.step
        text = f"step {line.step} loss {line.loss:.4f} lr {line.learning_rate:.2e} "
        text += f"beta by layer {' '.join(f'{b:.4f}' for b in line.layer_betas) or 'none'}"
        if line.val_loss is not None:
            text += f" val {line.val_loss:.4f} (relaxed {line.val_loss_relaxed:.4f})"
        if line.equivariance_error is not None:
            text += f" equivariance error {line.equivariance_error:.1e} Å"
        log(text)
