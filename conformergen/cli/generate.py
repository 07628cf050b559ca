"""``conformergen generate``."""

from collections.abc import Iterable
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from conformergen.cli.app import app, exit_if_failed, log, log_json, progress, shard_of
from conformergen.cli.options import Device, Jobs, MaxFailures, Seed, Shard
from conformergen.errors import InputError

if TYPE_CHECKING:
    from conformergen.io.inputs import InputRecord
    from conformergen.records import Failure
    from conformergen.torsion.constraints import Constraints


@app.command()
def generate(
    source: Annotated[str, typer.Argument(metavar="INPUT", help="A SMILES, '-', .smi, .csv or .sdf, also .gz.")],
    out: Annotated[
        str, typer.Option("--out", "-o", help=".sdf[.gz], .xyz[.gz], .h5 or .pkl; '-' is SDF on standard output.")
    ] = "-",
    n: Annotated[
        str,
        typer.Option(
            "-n", help="Conformers of each molecule; auto: by flexibility; 2K: twice the column n_conformers."
        ),
    ] = "20",
    checkpoint: Annotated[str, typer.Option(help="Shipped model, model folder or training run.")] = "default",
    method: Annotated[
        str, typer.Option(help="model, etkdg, etkdg+mmff94s, torsion+mmff94s, or gfnff (needs xtb).")
    ] = "model",
    start: Annotated[
        str, typer.Option(help="How the start structures of the model are made: auto, or a method without a network.")
    ] = "auto",
    pool: Annotated[
        int,
        typer.Option(min=1, help="Candidates searched for each requested conformer; more find more and take longer."),
    ] = 2,
    ewin: Annotated[
        float | None,
        typer.Option(
            help="Energy window above the lowest conformer, kcal/mol; by default 4, wider if it holds too few."
        ),
    ] = None,
    rms: Annotated[
        float | None, typer.Option(help="Leave out conformers closer than this to a better one (RMSD, Å).")
    ] = None,
    select: Annotated[str, typer.Option(help="Minima of gfnff: the n lowest, or n diverse ones.")] = "lowest",
    sampler: Annotated[str, typer.Option(help="euler, heun or stochastic.")] = "euler",
    rounds: Annotated[
        int, typer.Option(min=1, help="Rounds of network and force field; 1 is faster and slightly less accurate.")
    ] = 3,
    seed: Seed = 0,
    refine: Annotated[
        str, typer.Option(help="Optimise with none, mmff94s, uff, gfn-ff or gfn2-xtb (the last two need xtb).")
    ] = "none",
    stereo: Annotated[str, typer.Option(help="Open stereo: sample one isomer, enumerate, or error.")] = "sample",
    core: Annotated[
        Path | None, typer.Option(help="SDF of a template whose heavy atoms stay where they are (etkdg+mmff94s).")
    ] = None,
    torsion: Annotated[
        list[str] | None,
        typer.Option(help="SMARTS=DEGREES with atoms mapped :1 to :4: a fixed torsion (etkdg+mmff94s)."),
    ] = None,
    fragments: Annotated[str, typer.Option(help="Salts and mixtures: largest organic fragment, or error.")] = "largest",
    smiles_column: Annotated[str, typer.Option(help="Column of a .csv that contains the SMILES.")] = "smiles",
    name_column: Annotated[str, typer.Option(help="Column of a .csv that contains the name.")] = "name",
    max_atoms: Annotated[int, typer.Option(help="Largest molecule, in atoms with hydrogens.")] = 999,
    limit: Annotated[int | None, typer.Option(help="Only the first molecules of the input.")] = None,
    shard: Shard = None,
    jobs: Jobs = 1,
    max_failures: MaxFailures = 0,
    device: Device = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted run.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Parse the input and print counts by reason.")] = False,
    steps: Annotated[int | None, typer.Option(hidden=True, help="Network evaluations in all.")] = None,
    seeds: Annotated[str | None, typer.Option(hidden=True, help="Earlier name of --start.")] = None,
) -> None:
    """Generate conformers; failed inputs are listed in OUT.failures.jsonl."""
    from conformergen.generation.output import generate_to
    from conformergen.generation.settings import GenerateSettings
    from conformergen.io.inputs import read_inputs
    from conformergen.runtime.cpu_time import cpu_seconds

    count, per_reference = _count(n)
    index, total = shard_of(shard)
    settings = GenerateSettings(
        n=count,
        per_reference=per_reference,
        method=method,
        start=seeds or start,
        candidates_per_conformer=pool,
        ewin=ewin,
        rms=rms,
        checkpoint=checkpoint,
        sampler=sampler,
        rounds=rounds,
        steps=steps,
        select=select,
        seed=seed,
        refine=refine,
        stereo=stereo,
        fragments=fragments,
        constraints=_constraints(core, torsion or []),
        max_atoms=max_atoms,
        jobs=jobs,
        device=device,
    )
    records = read_inputs(source, smiles_column=smiles_column, name_column=name_column)
    chosen = (r for r in islice(records, limit) if r.index % total == index)
    if dry_run:
        _check(chosen, max_atoms=max_atoms, fragments=fragments)
        return
    began = cpu_seconds()

    def failed(failure: "Failure") -> None:
        if out == "-":
            log(f"{failure.name}: {failure.reason}: {failure.message}")

    with progress("molecules", None) as advance:
        summary = generate_to(chosen, out, settings, resume=resume, on_failure=failed, progress=advance)
    cpu = (cpu_seconds() - began) / max(1, summary.conformers)
    used = {"method": method, "rounds": rounds} | ({} if steps is None else {"steps": steps})
    log_json(asdict(summary) | used | {"cpu_seconds_per_conformer": round(cpu, 4)})
    exit_if_failed(summary.failed, max_failures)


def _count(text: str) -> tuple[int, int]:
    """Meaning of ``20``, ``auto`` and ``2K``: conformers (0: by flexibility), and multiple of ``n_conformers``."""
    if text == "auto":
        return 0, 0
    if text.upper().endswith("K") and text[:-1].isdigit():
        return 20, int(text[:-1])
    if not text.isdigit() or int(text) < 1:
        raise InputError(f"{text!r} is neither a number, auto, nor 2K for twice the column n_conformers", setting="n")
    return int(text), 0


def _constraints(core: Path | None, torsions: list[str]) -> "Constraints | None":
    """Constraints of ``--core`` and ``--torsion``."""
    from conformergen.torsion.constraints import Constraints

    if core is None and not torsions:
        return None
    fixed = []
    for text in torsions:
        smarts, _, angle = text.rpartition("=")
        try:
            fixed.append((smarts, float(angle)))
        except ValueError:
            raise InputError(f"{text!r} is not SMARTS=DEGREES", setting="torsion") from None
    if core is not None and not core.is_file():
        raise InputError(f"{core}: no such file")
    return Constraints(core="" if core is None else core.read_text().split("$$$$")[0], torsions=tuple(fixed))


def _check(records: "Iterable[InputRecord]", *, max_atoms: int, fragments: str) -> None:
    """Parse the inputs and print counts by reason."""
    from collections import Counter

    from conformergen.chem import largest_fragment, molecule_from_smiles
    from conformergen.errors import MoleculeError

    counts: Counter[str] = Counter()
    for record in records:
        try:
            smiles = largest_fragment(record.smiles) if fragments == "largest" else record.smiles
            molecule_from_smiles(smiles, record.name, max_atoms=max_atoms)
            counts["ok"] += 1
        except MoleculeError as error:
            counts[error.reason] += 1
            log(f"line {record.index + 1} {record.name}: {error.reason}: {error}")
    log_json({"requested": sum(counts.values()), **counts})
