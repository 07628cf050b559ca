"""``preprocess`` and ``reference``: make shards."""

from pathlib import Path
from typing import Annotated

import typer

from conformergen.cli.app import Jobs, MaxFailures, Seed, Shard, app, exit_by, progress, say, say_json, shard_of
from conformergen.errors import InputError

DryRun = Annotated[bool, typer.Option("--dry-run", help="Read and check the input, print counts, do nothing.")]

Join = Annotated[bool, typer.Option("--join", help="Share the output with other runs that join; the last one packs.")]
_OTHERS = "done; other runs that joined are still at work, and the last one completes the output"


@app.command()
def preprocess(
    sources: Annotated[list[Path], typer.Argument(help="GEOM rdkit_folder, .sdf[.gz], .smi, .csv or shard folders.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the shards.")],
    format: Annotated[str, typer.Option(help="auto, geom-rdkit, mols-pickle, sdf, shards, smiles.")] = "auto",
    split: Annotated[
        str, typer.Option(help="random, scaffold, train, keep (of shards), or a split file (.npy, .npz, .json).")
    ] = "random",
    max_confs: Annotated[int, typer.Option(help="Lowest conformers kept of each molecule.")] = 30,
    seeds: Annotated[bool, typer.Option(help="Pair each conformer with an ETKDGv3 seed conformer.")] = True,
    seeds_mmff94s: Annotated[bool, typer.Option(help="Minimise seeds with MMFF94s.")] = True,
    pairing: Annotated[
        str,
        typer.Option(
            help="Seeds: assigned (ETKDGv3, Hungarian), relaxed (MMFF94s minimum of the reference), or turned "
            "(the same with its torsions turned a little and held)."
        ),
    ] = "assigned",
    exclude_name: Annotated[list[str] | None, typer.Option(help="Shell pattern of names to leave out.")] = None,
    exclude_smiles: Annotated[
        list[Path] | None, typer.Option(help="List of molecules to leave out, stereoisomers included.")
    ] = None,
    seed: Seed = 0,
    jobs: Jobs = 1,
    max_failures: MaxFailures = 0,
    join: Join = False,
    dry_run: DryRun = False,
) -> None:
    """Clean datasets and write HDF5 shards; the same command resumes an interrupted run."""
    from conformergen.datasets.pairing import SeedSettings
    from conformergen.workflows.preprocess import PreprocessSettings, check_sources
    from conformergen.workflows.preprocess import preprocess as run

    settings = PreprocessSettings(
        format=format,
        split=split,
        max_confs=max_confs,
        seeds=SeedSettings(mmff94s=seeds_mmff94s, pairing=pairing) if seeds else None,
        seed=seed,
        exclude_names=tuple(exclude_name or ()),
        exclude_smiles=tuple(map(str, exclude_smiles or ())),
    )
    if dry_run:
        say_json(check_sources(sources, settings))
        return
    with progress("molecules", None) as advance:
        summary = run(sources, out, settings, jobs=jobs, join=join, progress=advance)
    if summary is None:
        say(_OTHERS)
        return
    for failure in summary.failures:
        say(f"{failure.name or failure.input}: {failure.reason}: {failure.message}")
    say_json(
        {
            "requested": summary.requested,
            "done": summary.done,
            "failed": summary.failed,
            "excluded": summary.excluded,
            "conformers": summary.conformers,
            "dropped_conformers": summary.dropped,
        }
    )
    exit_by(summary.failed, max_failures)


@app.command()
def reference(
    source: Annotated[str, typer.Argument(metavar="INPUT", help="A SMILES, '-', .smi, .csv or .sdf, also .gz.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of finished ensembles and the shard.")],
    level: Annotated[str, typer.Option(help="gfn2-xtb, or gfn-ff as the cheap option.")] = "gfn2-xtb",
    ewin: Annotated[float, typer.Option(help="Energy window of the result, kcal/mol.")] = 6.0,
    engine: Annotated[str, typer.Option(help="xtb (program), tblite (library: MMFF94s for GFN-FF), or auto.")] = "auto",
    format: Annotated[
        list[str] | None, typer.Option(help="Also write sdf or rdkit-folder (GEOM's layout), beside the shard.")
    ] = None,
    lean: Annotated[
        bool, typer.Option("--lean", help="A part of the search, the lowest conformers: training sets.")
    ] = False,
    thorough: Annotated[
        bool, typer.Option("--thorough", help="Caps for flexible molecules: where 'truncated' names a stage.")
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
) -> None:
    """Make complete GFN2-xTB ensembles; the same command, with or without --resume, goes on where it stopped."""
    del resume
    from conformergen.datasets.inputs import read_inputs
    from conformergen.workflows.make_reference import make_reference
    from conformergen.workflows.reference import ReferenceSettings

    if lean and thorough:
        raise InputError("--lean and --thorough exclude each other")
    index, total = shard_of(shard)
    records = [r for r in read_inputs(source) if r.index % total == index]
    make = ReferenceSettings.lean if lean else ReferenceSettings.thorough if thorough else ReferenceSettings
    settings = make(level=level, ewin=ewin, engine=engine)
    if dry_run:
        say_json({"requested": len(records)})
        return
    with progress("ensembles", len(records)) as advance:
        summary = make_reference(
            records,
            out,
            settings,
            seed=seed,
            split=split,
            formats=tuple(format or ()),
            jobs=jobs,
            join=join,
            on_failure=lambda f: say(f"{f.name}: {f.reason}: {f.message}"),
            progress=advance,
        )
    if summary is None:
        say(_OTHERS)
        return
    say_json(
        {
            "requested": summary.requested,
            "done": summary.done,
            "failed": summary.failed,
            "conformers": summary.conformers,
        }
    )
    exit_by(summary.failed, max_failures)
