"""``conformergen preprocess``."""

from pathlib import Path
from typing import Annotated

import typer

from conformergen.cli.app import JOINED, app, exit_if_failed, log, log_json, progress
from conformergen.cli.options import DryRun, Jobs, Join, MaxFailures, Seed


@app.command()
def preprocess(
    sources: Annotated[list[Path], typer.Argument(help="GEOM rdkit_folder, .sdf[.gz], .smi, .csv or shard folders.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the shards.")],
    format: Annotated[str, typer.Option(help="auto, geom-rdkit, mols-pickle, sdf, shards, smiles or xyz.")] = "auto",
    split: Annotated[
        str, typer.Option(help="random, scaffold, train, keep (of shards), or a split file (.npy, .npz, .json).")
    ] = "random",
    max_confs: Annotated[int, typer.Option(help="Number of the lowest conformers kept of each molecule.")] = 30,
    starts: Annotated[bool, typer.Option(help="Pair each conformer with a start structure.")] = True,
    starts_mmff94s: Annotated[bool, typer.Option(help="Minimise start structures with MMFF94s.")] = True,
    pairing: Annotated[
        str,
        typer.Option(
            help="Start structures: assigned (ETKDGv3, by RMSD), minimised (MMFF94s minimum of the reference), "
            "or perturbed (the same after a small rotation of every torsion)."
        ),
    ] = "assigned",
    exclude_name: Annotated[list[str] | None, typer.Option(help="Shell pattern of names to leave out.")] = None,
    exclude_smiles: Annotated[
        list[Path] | None, typer.Option(help="List of molecules to leave out, with all their stereoisomers.")
    ] = None,
    seed: Seed = 0,
    jobs: Jobs = 1,
    max_failures: MaxFailures = 0,
    join: Join = False,
    dry_run: DryRun = False,
    seeds: Annotated[
        bool | None, typer.Option("--seeds/--no-seeds", hidden=True, help="Earlier name of --starts.")
    ] = None,
    seeds_mmff94s: Annotated[
        bool | None,
        typer.Option("--seeds-mmff94s/--no-seeds-mmff94s", hidden=True, help="Earlier name of --starts-mmff94s."),
    ] = None,
) -> None:
    """Clean data sets and write HDF5 shards."""
    from conformergen.commands.preprocess import check_sources
    from conformergen.commands.preprocess import preprocess as run
    from conformergen.datasets.pairing import PairingSettings
    from conformergen.datasets.sources import PreprocessSettings

    wanted = starts if seeds is None else seeds
    minimised = starts_mmff94s if seeds_mmff94s is None else seeds_mmff94s
    settings = PreprocessSettings(
        format=format,
        split=split,
        max_confs=max_confs,
        starts=PairingSettings(mmff94s=minimised, pairing=pairing) if wanted else None,
        seed=seed,
        exclude_names=tuple(exclude_name or ()),
        exclude_smiles=tuple(map(str, exclude_smiles or ())),
    )
    if dry_run:
        log_json(dict(check_sources(sources, settings)))
        return
    with progress("molecules", None) as advance:
        summary = run(sources, out, settings, jobs=jobs, join=join, progress=advance)
    if summary is None:
        log(JOINED)
        return
    for failure in summary.failures:
        log(f"{failure.name or failure.input}: {failure.reason}: {failure.message}")
    log_json(
        {
            "requested": summary.requested,
            "done": summary.done,
            "failed": summary.failed,
            "excluded": summary.excluded,
            "conformers": summary.conformers,
            "dropped_conformers": summary.dropped,
        }
    )
    exit_if_failed(summary.failed, max_failures)
