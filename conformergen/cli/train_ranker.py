"""``conformergen train-ranker``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from conformergen.cli.app import app, log, log_json
from conformergen.cli.options import Device, Seed

if TYPE_CHECKING:
    from conformergen.training.ranker import RankingQuality


@app.command("train-ranker")
def train_ranker(
    data: Annotated[
        list[Path],
        typer.Option("--data", help="Shards of MMFF94s minima with GFN2-xTB energies, or of minimised pairs."),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the ranker.")],
    init: Annotated[
        str | None, typer.Option(help="Continue from this ranker, or start from the layers of this model.")
    ] = None,
    samples_of: Annotated[
        str | None, typer.Option(help="Order the samples that this model makes of the conformers, as 'generate' does.")
    ] = None,
    steps: Annotated[int, typer.Option(help="Optimiser steps.")] = 4000,
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate.")] = 1e-3,
    conformers: Annotated[int, typer.Option(help="Conformers of each molecule in one step.")] = 10,
    seed: Seed = 0,
    device: Device = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Continue from the newest report.")] = False,
) -> None:
    """Train the network that orders conformers by energy."""
    from dataclasses import asdict

    from conformergen.commands.train_ranker import fit_ranker
    from conformergen.training.ranker import RankingSettings

    def report(step: int, loss: float, quality: "RankingQuality | None") -> None:
        held_out = "" if quality is None else (
            f" held out: rho {quality.ranker:.3f} (MMFF94s {quality.force_field:.3f}), "
            f"error {quality.ranker_error:.2f} ({quality.force_field_error:.2f}) kcal/mol"
        )  # fmt: skip
        log(f"step {step} loss {loss:.4f}{held_out}")

    settings = RankingSettings(steps=steps, learning_rate=learning_rate, conformers=conformers, seed=seed)
    quality = fit_ranker(
        data, out, settings, init=init, samples_of=samples_of, device=device, resume=resume, report=report
    )
    log_json({"steps": steps, **(asdict(quality) if quality else {})})
