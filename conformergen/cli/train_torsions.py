"""``conformergen train-torsions``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from conformergen.cli.app import app, log, log_json
from conformergen.cli.options import Seed

if TYPE_CHECKING:
    from conformergen.commands.train_torsions import TorsionModelQuality


@app.command("train-torsions")
def train_torsions(
    data: Annotated[
        list[Path],
        typer.Option("--data", help="Shards of minima with energies, or a folder of searched molecules (.npz)."),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the torsion model.")],
    init: Annotated[str | None, typer.Option(help="Start from the torsion model of this checkpoint or run.")] = None,
    steps: Annotated[int, typer.Option(help="Optimiser steps.")] = 8000,
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate.")] = 2e-3,
    report_every: Annotated[int, typer.Option(help="Steps between evaluations on held-out molecules.")] = 500,
    muon: Annotated[bool, typer.Option(help="Train inner matrices with Muon; otherwise all with AdamW.")] = True,
    seed: Seed = 0,
) -> None:
    """Train the network that draws torsions for the search."""
    from dataclasses import asdict

    from conformergen.commands.train_torsions import fit_torsion_model
    from conformergen.training.torsion_model import TorsionModelSettings

    def report(quality: "TorsionModelQuality") -> None:
        log(
            f"step {quality.step} held out: {quality.unconditional:.3f} nats for a torsion by itself, "
            f"{quality.given:.3f} with others given"
        )

    settings = TorsionModelSettings(
        steps=steps, learning_rate=learning_rate, report_every=report_every, muon=muon, seed=seed
    )
    log_json(asdict(fit_torsion_model(data, out, settings, init=init, report=report)))
