"""``conformergen bench``."""

import json
from pathlib import Path
from typing import Annotated

import typer

from conformergen.cli.app import app
from conformergen.errors import InputError


@app.command()
def bench(
    stage: Annotated[str, typer.Argument(help="rmsd, rmsd-hard, evaluate, generate or startup.")],
    source: Annotated[
        Path | None, typer.Option("--input", help="Molecules to work on, or a list with the column n_conformers.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure speed beside other programs in one run."""
    from dataclasses import asdict

    from conformergen.commands.bench import STAGES, measure, summary, versions
    from conformergen.runtime.devices import limit_threads

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
