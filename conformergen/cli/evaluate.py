"""``conformergen evaluate``."""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated

import typer

from conformergen.cli.app import app, progress
from conformergen.cli.options import Jobs
from conformergen.errors import InputError


@app.command()
def evaluate(
    generated: Annotated[
        list[Path],
        typer.Argument(help="Conformers (SDF, .h5, shards, .xyz, pickles of other generators, .pt), or reports."),
    ],
    reference: Annotated[
        Path | None,
        typer.Option(
            help="Reference conformers (any of these formats, or a GEOM rdkit_folder). Omit if GENERATED "
            "already contains them."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="JSON report of the first set.")] = None,
    html: Annotated[Path | None, typer.Option(help="HTML report that works offline.")] = None,
    table: Annotated[Path | None, typer.Option("--csv", help="CSV with one line for each set and molecule.")] = None,
    export: Annotated[
        list[str] | None,
        typer.Option(help="geodiff=FILE or etflow=FILE: write the first set and the references for these evaluators."),
    ] = None,
    thresholds: Annotated[str, typer.Option(help="Thresholds in Å, comma-separated.")] = "0.5,0.75,1.25",
    label: Annotated[str, typer.Option(help="Name of the first set in table and report.")] = "",
    checks: Annotated[
        str, typer.Option(help="Further checks: stereo, posebusters, strain, rings, properties; comma-separated.")
    ] = "",
    check_samples: Annotated[int, typer.Option(help="Samples of each molecule in the costly checks.")] = 10,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse RMSDs that are upper bounds.")] = False,
    compare: Annotated[
        bool, typer.Option("--compare", help="Compare JSON reports with the last one given (paired differences).")
    ] = False,
    jobs: Jobs = 1,
) -> None:
    """Score conformers by COV and MAT."""
    from conformergen.commands.evaluate import Evaluation
    from conformergen.commands.evaluate import evaluate as run
    from conformergen.evaluation.checks import CheckSettings
    from conformergen.evaluation.report import read_report
    from conformergen.reports.tables import checks_table, comparison_table, report_table, write_molecules
    from conformergen.runtime.files import write_json

    if compare:
        print(comparison_table({path.stem: read_report(path) for path in generated}))
        return
    exports = [_export(text) for text in export or ()]
    limits = _thresholds(thresholds)
    results: dict[str, Evaluation] = {}
    for path in generated:
        name = label if label and path == generated[0] else path.name.split(".")[0]
        with _stages(name) as advance:
            results[name] = run(
                path,
                reference,
                thresholds=limits,
                checks=[c.strip() for c in checks.split(",") if c.strip()],
                check_settings=CheckSettings(max_samples=check_samples),
                jobs=jobs,
                progress=advance,
            )
        report = results[name].result
        if strict and report.n_upper_bound:
            raise InputError(f"{name}: {report.n_upper_bound} molecules have RMSDs that are upper bounds only")
        print(report_table(report, label=name))
        if checks:
            print(checks_table(report.checks))
    reports = {name: result.result for name, result in results.items()}
    if len(reports) > 1:
        print(comparison_table(reports))
    if out is not None:
        write_json(out, next(iter(reports.values())).to_json())
    if table is not None:
        write_molecules(table, reports)
    for kind, path in exports:
        from conformergen.io.formats.pyg import write_evaluator_file

        first = next(iter(results.values()))
        write_evaluator_file(kind, path, [(score.smiles, score.aligned) for score in first.scores])
    if html is not None:
        from conformergen.reports.evaluation_report import write_html

        write_html(html, reports, {name: result.scores for name, result in results.items()})
    sys.stdout.flush()


def _thresholds(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(t) for t in text.split(","))
    except ValueError:
        raise InputError(f"{text!r} is not a comma-separated list of numbers", setting="thresholds") from None


def _export(text: str) -> tuple[str, Path]:
    """Evaluator and file of ``NAME=FILE``."""
    name, _, file = text.partition("=")
    if name not in ("geodiff", "etflow") or not file:
        raise InputError(f"{text!r} is neither geodiff=FILE nor etflow=FILE", setting="export")
    return name, Path(file)


@contextmanager
def _stages(name: str) -> "Iterator[Callable[[str, int], None]]":
    """Show a progress bar for each stage, one after the other."""
    with ExitStack() as bars:
        advance: dict[str, Callable[[int], None]] = {}

        def step(stage: str, n: int) -> None:
            if stage not in advance:
                bars.close()
                advance[stage] = bars.enter_context(progress(f"{stage} {name}", None))
            advance[stage](n)

        yield step
