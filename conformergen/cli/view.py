"""``conformergen view``."""

from pathlib import Path
from typing import Annotated

import typer

from conformergen.cli.app import app


@app.command()
def view(
    source: Annotated[Path, typer.Argument(help="Conformers, in any format that evaluate reads.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="HTML page.")],
) -> None:
    """Write a page that shows conformers offline: 3D, overlay, energies, torsions."""
    from conformergen.reports.viewer import view as make_view

    make_view(source).save(out)
