"""``train``, ``export`` and ``info``."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from conformergen.cli.app import app, progress, say, say_json
from conformergen.errors import InputError

if TYPE_CHECKING:
    from conformergen.training.loop import LogLine

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


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
        raise InputError(f"--time-limit {text!r}: write 90m, 2h or 45s")
    return value


@app.command()
def train(
    data: Annotated[list[Path], typer.Option("--data", help="Shard folder; may be given several times.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Run folder.")],
    preset: Annotated[str, typer.Option(help="tiny, small or drugs.")] = "small",
    config: Annotated[Path | None, typer.Option(help="TOML file over the preset.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="key=value over both, such as training.learning_rate=5e-4."),
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
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Continue from the newest good checkpoint.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check settings and data, print counts.")] = False,
) -> None:
    """Train a generator on shards; every step can be resumed exactly."""
    from conformergen.config import load_config
    from conformergen.workflows.train import load_sets
    from conformergen.workflows.train import train as run

    overrides = list(set_ or [])
    if relaxation is not None:
        overrides.append(f"network.relaxation.mode={relaxation}")
    if steps is not None:
        overrides.append(f"training.steps={steps}")
    settings = load_config(preset, config, overrides)
    if dry_run:
        counts = {part: len(load_sets(data, part)) for part in ("train", "val")}
        say_json({"molecules": counts, "steps": settings.training.steps})
        return
    limit = None if time_limit is None else seconds(time_limit)
    with progress("steps", settings.training.steps) as advance:
        report = _Report(advance)
        summary = run(
            data, out, settings, device=device, time_limit=limit, resume=resume, init=init, report=report, warn=say
        )
    say_json(
        {
            "step": summary.step,
            "finished": summary.finished,
            "val_loss": summary.val_loss,
            "skipped_steps": summary.skipped,
        }
    )


@app.command("train-ranker")
def train_ranker(
    data: Annotated[
        list[Path], typer.Option("--data", help="Shards of MMFF94s minima with GFN2-xTB energies, or of relaxed pairs.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the ranker.")],
    init: Annotated[
        str | None, typer.Option(help="Go on from this ranker, or start from the layers of this model.")
    ] = None,
    samples_of: Annotated[
        str | None, typer.Option(help="Rank what this model makes of the conformers, as 'generate' does.")
    ] = None,
    steps: Annotated[int, typer.Option(help="Optimiser steps.")] = 4000,
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate.")] = 1e-3,
    seed: Annotated[int, typer.Option(help="Of batches and weights.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Continue from the newest report.")] = False,
) -> None:
    """Train the network that orders conformers by predicted GFN2-xTB energy."""
    from dataclasses import asdict

    from conformergen.training.ranking import RankingSettings
    from conformergen.workflows.train_ranker import RankingQuality, fit

    def report(step: int, loss: float, quality: RankingQuality | None) -> None:
        held_out = "" if quality is None else (
            f" held out: rho {quality.ranker:.3f} (MMFF94s {quality.force_field:.3f}), "
            f"error {quality.ranker_error:.2f} ({quality.force_field_error:.2f}) kcal/mol"
        )  # fmt: skip
        say(f"step {step} loss {loss:.4f}{held_out}")

    settings = RankingSettings(steps=steps, learning_rate=learning_rate, seed=seed)
    quality = fit(data, out, settings, init=init, samples_of=samples_of, device=device, resume=resume, report=report)
    say_json({"steps": steps, **(asdict(quality) if quality else {})})


class _Report:
    """Move the bar and print each log line."""

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
        say(text)


@app.command()
def export(
    run: Annotated[str, typer.Argument(help="Training run or checkpoint.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the exported model.")],
    exact: Annotated[bool, typer.Option("--exact", help="Drop the relaxed branches: exactly equivariant.")] = False,
    name: Annotated[str | None, typer.Option(help="Name of the model; the folder's by default.")] = None,
    ranker: Annotated[Path | None, typer.Option(help="Put the ranker of this train-ranker run beside it.")] = None,
) -> None:
    """Write a model for inference: averaged weights and settings, without the training state."""
    from conformergen.workflows.export import export as run_export

    say_json(run_export(run, out, exact=exact, name=name, ranker=ranker))


@app.command()
def info(
    path: Annotated[str, typer.Argument(help="Shard folder, checkpoint, training run, or name of a shipped model.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what a shard folder or a checkpoint holds."""
    from conformergen.workflows.info import describe

    facts = describe(path)
    if as_json:
        print(json.dumps(facts, indent=1))
        return
    for key, value in facts.items():
        print(f"{key:24s} {value}")


@app.command()
def bench(
    stage: Annotated[str, typer.Argument(help="rmsd, rmsd-hard, evaluate, generate or startup.")],
    source: Annotated[
        Path | None, typer.Option("--input", help="Work on this instead: a list with n_conformers, or molecules.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure our speed beside a peer's, in one run."""
    from dataclasses import asdict

    from conformergen.workflows.bench import STAGES, measure, summary, versions
    from conformergen.workflows.devices import limit_threads

    if stage not in STAGES:
        raise InputError(f"stage {stage!r} is not one of {', '.join(STAGES)}")
    limit_threads()
    works, measured = [], []
    for work in STAGES[stage](source):
        result = measure(work)
        works.append(work)
        measured.append(result)
        if not as_json:
            peers = ", ".join(f"{name} {us:.4g} ({result.ratios[name]:.3g}x)" for name, us in result.peers.items())
            facts = "; ".join(f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in result.facts.items())
            print(f"{result.name}: {result.ours:.4g} CPU us per {result.unit}; {peers}{'; ' + facts if facts else ''}")
    lines = summary(works, measured)
    if as_json:
        print(
            json.dumps(
                {"stage": stage, "versions": versions(), "results": list(map(asdict, measured)), "summary": lines}
            )
        )
        return
    for name, line in lines.items():
        promise = (
            ""
            if line["promised"] is None
            else f" (promised {line['promised']:g}, {'kept' if line['kept'] else 'MISSED'})"
        )
        print(f"ratio to {name}, geometric mean: {line['ratio']:.3g}{promise}")
