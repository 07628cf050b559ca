"""``conformergen reference``."""

from pathlib import Path
from typing import Annotated

import typer

from conformergen.cli.app import JOINED, app, exit_if_failed, log, log_json, progress, shard_of
from conformergen.cli.options import DryRun, Jobs, Join, MaxFailures, Seed, Shard
from conformergen.errors import InputError


@app.command()
def reference(
    source: Annotated[str, typer.Argument(metavar="INPUT", help="A SMILES, '-', .smi, .csv or .sdf, also .gz.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of finished ensembles and the shard.")],
    theory: Annotated[str, typer.Option(help="Level of theory: gfn2-xtb, or the cheaper gfn-ff.")] = "gfn2-xtb",
    ewin: Annotated[float, typer.Option(help="Energy window of the result, kcal/mol.")] = 6.0,
    engine: Annotated[str, typer.Option(help="xtb (program), tblite (library: MMFF94s for GFN-FF), or auto.")] = "auto",
    format: Annotated[
        list[str] | None, typer.Option(help="Also write sdf or rdkit-folder (GEOM's layout) beside the shard.")
    ] = None,
    lean: Annotated[
        bool, typer.Option("--lean", help="Shorter search (about 60 CPU s for a drug), for training sets.")
    ] = False,
    thorough: Annotated[
        bool, typer.Option("--thorough", help="Raise the limits (4 times) for very flexible molecules.")
    ] = False,
    split: Annotated[str, typer.Option(help="random, scaffold, train, or a split file.")] = "train",
    shard: Shard = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue a run; finished molecules are always taken as they are.")
    ] = False,
    seed: Seed = 0,
    jobs: Jobs = 1,
    max_failures: MaxFailures = 0,
    join: Join = False,
    dry_run: DryRun = False,
    level: Annotated[str | None, typer.Option(hidden=True, help="Earlier name of --theory.")] = None,
) -> None:
    """Compute GFN2-xTB reference ensembles; a second run continues."""
    del resume
    from conformergen.commands.reference import make_reference
    from conformergen.io.inputs import read_inputs
    from conformergen.reference.settings import ReferenceSettings

    if lean and thorough:
        raise InputError("--lean and --thorough exclude each other")
    index, total = shard_of(shard)
    records = [r for r in read_inputs(source) if r.index % total == index]
    make = ReferenceSettings.lean if lean else ReferenceSettings.thorough if thorough else ReferenceSettings
    settings = make(theory=level or theory, ewin=ewin, engine=engine)
    if dry_run:
        log_json({"requested": len(records)})
        return
    with progress("ensembles", len(records)) as advance:
        manifest = make_reference(
            records,
            out,
            settings,
            seed=seed,
            split=split,
            formats=tuple(format or ()),
            jobs=jobs,
            join=join,
            on_failure=lambda f: log(f"{f.name}: {f.reason}: {f.message}"),
            progress=advance,
        )
    if manifest is None:
        log(JOINED)
        return
    failed = len(manifest.failures)
    log_json(
        {
            "requested": manifest.requested,
            "done": manifest.molecules,
            "failed": failed,
            "conformers": manifest.conformers,
        }
    )
    exit_if_failed(failed, max_failures)
