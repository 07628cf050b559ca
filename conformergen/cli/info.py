"""``conformergen info``."""

import json
from typing import Annotated

import typer

from conformergen.cli.app import app


@app.command()
def info(
    path: Annotated[str, typer.Argument(help="Shard folder, checkpoint, training run, or name of a shipped model.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Describe a shard folder or a checkpoint."""
    from conformergen.commands.info import describe

    facts = describe(path)
    if as_json:
        print(json.dumps(facts, indent=1))
        return
    for key, value in facts.items():
        print(f"{key:24s} {value}")
