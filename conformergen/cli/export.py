"""``conformergen export``."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from conformergen.cli.app import app, log_json


@app.command()
def export(
    run: Annotated[str, typer.Argument(help="Training run or checkpoint.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the exported model.")],
    exact: Annotated[bool, typer.Option("--exact", help="Drop the relaxed branches: exactly equivariant.")] = False,
    name: Annotated[str | None, typer.Option(help="Name of the model; by default that of the folder.")] = None,
    ranker: Annotated[Path | None, typer.Option(help="Folder of a train-ranker run, whose ranker is added.")] = None,
    torsion_model: Annotated[
        Path | None, typer.Option(help="Folder of a train-torsions run, whose torsion model is added.")
    ] = None,
) -> None:
    """Write a model for inference, without the training state."""
    from conformergen.commands.export import export as run_export

    log_json(asdict(run_export(run, out, exact=exact, name=name, ranker=ranker, torsion_model=torsion_model)))
