"""``generate`` and ``evaluate``."""

import resource
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from conformergen.cli.app import Jobs, MaxFailures, Seed, Shard, app, exit_by, progress, say, say_json, shard_of
from conformergen.errors import InputError

if TYPE_CHECKING:
    from conformergen.chem.constraints import Constraints
    from conformergen.datasets.inputs import InputRecord
    from conformergen.records import Failure


def _count(text: str) -> tuple[int, int]:
    """``20``, ``auto`` or ``2K``: conformers (0 by flexibility), and the multiple of the column ``n_conformers``."""
    if text == "auto":
        return 0, 0
    if text.upper().endswith("K") and text[:-1].isdigit():
        return 20, int(text[:-1])
    if not text.isdigit() or int(text) < 1:
        raise InputError(f"-n {text!r}: a number, auto, or 2K for twice the input's n_conformers column")
    return int(text), 0


def _cpu_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def _constraints(core: Path | None, torsions: list[str]) -> "Constraints | None":
    """``--core`` and ``--torsion``."""
    from conformergen.chem.constraints import Constraints

    if core is None and not torsions:
        return None
    held = []
    for text in torsions:
        smarts, _, angle = text.rpartition("=")
        try:
            held.append((smarts, float(angle)))
        except ValueError:
            raise InputError(f"--torsion {text!r}: write SMARTS=DEGREES") from None
    if core is not None and not core.is_file():
        raise InputError(f"{core}: no such file")
    return Constraints(core="" if core is None else core.read_text().split("$$$$")[0], torsions=tuple(held))


@app.command()
def generate(
    source: Annotated[str, typer.Argument(metavar="INPUT", help="A SMILES, '-', .smi, .csv or .sdf, also .gz.")],
    out: Annotated[
        str, typer.Option("--out", "-o", help=".sdf[.gz], .xyz[.gz], .h5, .pkl; '-' is SDF on stdout.")
    ] = "-",
    n: Annotated[
        str,
        typer.Option("-n", help="Conformers of each molecule; auto: by flexibility; 2K: twice column n_conformers."),
    ] = "20",
    checkpoint: Annotated[str, typer.Option(help="Shipped model, model folder or training run.")] = "default",
    method: Annotated[
        str, typer.Option(help="model, etkdg, etkdg+mmff94s, torsion+mmff94s, or gfnff (needs xtb).")
    ] = "model",
    seeds: Annotated[str, typer.Option(help="Where the model starts: auto, or a method without one.")] = "auto",
    pool: Annotated[
        int, typer.Option(min=1, help="Torsion search: minima made for each conformer, quality against cost.")
    ] = 2,
    ewin: Annotated[
        float | None, typer.Option(help="Window above the lowest, kcal/mol: of the search, and of refined energies.")
    ] = None,
    rms: Annotated[float | None, typer.Option(help="Leave out conformers closer than this to a better one, Å.")] = None,
    select: Annotated[str, typer.Option(help="Minima of gfnff: the n lowest, or n diverse.")] = "lowest",
    sampler: Annotated[str, typer.Option(help="euler, heun or stochastic.")] = "euler",
    steps: Annotated[int, typer.Option(help="Network evaluations, in rounds: two in the last.")] = 4,
    seed: Seed = 0,
    refine: Annotated[str, typer.Option(help="none, mmff94s, uff, gfn-ff or gfn2-xtb (these need xtb).")] = "none",
    stereo: Annotated[str, typer.Option(help="Open stereo: sample one isomer, enumerate, or error.")] = "sample",
    core: Annotated[
        Path | None, typer.Option(help="SDF of a template: its heavy atoms stay where they are (etkdg+mmff94s).")
    ] = None,
    torsion: Annotated[
        list[str] | None, typer.Option(help="SMARTS=DEGREES, atoms mapped :1 to :4, held fixed (etkdg+mmff94s).")
    ] = None,
    fragments: Annotated[str, typer.Option(help="Salts and mixtures: largest organic fragment, or error.")] = "largest",
    smiles_column: Annotated[str, typer.Option(help="Column of a .csv.")] = "smiles",
    name_column: Annotated[str, typer.Option(help="Column of a .csv.")] = "name",
    max_atoms: Annotated[int, typer.Option(help="Largest molecule, hydrogens included.")] = 999,
    limit: Annotated[int | None, typer.Option(help="Only the first molecules of the input.")] = None,
    shard: Shard = None,
    jobs: Jobs = 1,
    max_failures: MaxFailures = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Go on where an interrupted run stopped.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Parse the input, print counts by reason.")] = False,
) -> None:
    """Generate conformers; inputs that fail are listed in OUT.failures.jsonl with a reason code."""
    from conformergen.datasets.inputs import read_inputs
    from conformergen.workflows.generate import GenerateSettings, generate_to

    count, per_reference = _count(n)
    index, total = shard_of(shard)
    settings = GenerateSettings(
        n=count,
        per_reference=per_reference,
        method=method,
        seeds=seeds,
        pool=pool,
        ewin=ewin,
        rms=rms,
        checkpoint=checkpoint,
        sampler=sampler,
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
    began = _cpu_seconds()

    def failed(failure: "Failure") -> None:
        if out == "-":
            say(f"{failure.name}: {failure.reason}: {failure.message}")

    with progress("molecules", None) as advance:
        summary = generate_to(chosen, out, settings, resume=resume, on_failure=failed, progress=advance)
    values = asdict(summary)
    cpu = (_cpu_seconds() - began) / max(1, summary.conformers)
    say_json(values | {"method": method, "steps": steps, "cpu_seconds_per_conformer": round(cpu, 4)})
    exit_by(summary.failed, max_failures)


def _check(records: "Iterable[InputRecord]", *, max_atoms: int, fragments: str) -> None:
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
            say(f"line {record.index + 1} {record.name}: {error.reason}: {error}")
    say_json({"requested": sum(counts.values()), **counts})


def _thresholds(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(t) for t in text.split(","))
    except ValueError:
        raise InputError(f"--thresholds {text!r}: numbers, comma-separated") from None


def _export(text: str) -> tuple[str, Path]:
    """``NAME=FILE`` of --export."""
    name, _, file = text.partition("=")
    if not file:
        raise InputError(f"--export {text!r}: write geodiff=FILE or etflow=FILE")
    return name, Path(file)


@contextmanager
def _stages(name: str) -> "Iterator[Callable[[str, int], None]]":
    """A progress bar for each stage, the next one when the stage changes."""
    with ExitStack() as bars:
        advance: dict[str, Callable[[int], None]] = {}

        def step(stage: str, n: int) -> None:
            if stage not in advance:
                bars.close()
                advance[stage] = bars.enter_context(progress(f"{stage} {name}", None))
            advance[stage](n)

        yield step


@app.command()
def evaluate(
    generated: Annotated[
        list[Path],
        typer.Argument(help="Conformers: SDF, .h5, shards, .xyz, pickles of other generators, .pt; or reports."),
    ],
    reference: Annotated[
        Path | None,
        typer.Option(
            help="Reference conformers, in any of these or a GEOM rdkit_folder; not where GENERATED holds them."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="JSON report, of the first set.")] = None,
    html: Annotated[Path | None, typer.Option(help="HTML report that works offline.")] = None,
    table: Annotated[Path | None, typer.Option("--csv", help="One line for each set and molecule.")] = None,
    export: Annotated[
        list[str] | None,
        typer.Option(help="geodiff=FILE or etflow=FILE: the first set and the references for these evaluators."),
    ] = None,
    thresholds: Annotated[str, typer.Option(help="Å, comma-separated.")] = "0.5,0.75,1.25",
    label: Annotated[str, typer.Option(help="Name of the first set in table and report.")] = "",
    checks: Annotated[
        str, typer.Option(help="Beyond COV and MAT: stereo, posebusters, strain, rings, properties; comma-separated.")
    ] = "",
    check_samples: Annotated[int, typer.Option(help="Samples of a molecule that the costly checks look at.")] = 10,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse RMSDs that are upper bounds.")] = False,
    compare: Annotated[
        bool, typer.Option("--compare", help="Put JSON reports side by side, each less the last, paired by molecule.")
    ] = False,
    jobs: Jobs = 1,
) -> None:
    """Score conformers: COV and MAT, recall and precision, heavy-atom symmetry-aware RMSD, strict <."""
    from conformergen.datasets.shards import write_json
    from conformergen.workflows.checks import CheckSettings
    from conformergen.workflows.evaluate import Evaluation, checks_table, comparison, read_report, write_molecules
    from conformergen.workflows.evaluate import evaluate as run
    from conformergen.workflows.evaluate import table as as_text
    from conformergen.workflows.exchange import write_exchange

    if compare:
        print(comparison({path.stem: read_report(path) for path in generated}))
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
        report = results[name].report
        if strict and report["n_upper_bound"]:
            raise InputError(f"{name}: {report['n_upper_bound']} molecules have RMSDs that are upper bounds only")
        print(as_text(report, label=name))
        if checks:
            print(checks_table(report))
    reports = {name: result.report for name, result in results.items()}
    if len(reports) > 1:
        print(comparison(reports))
    if out is not None:
        write_json(out, next(iter(reports.values())))
    if table is not None:
        write_molecules(table, reports)
    for kind, path in exports:
        write_exchange(kind, path, next(iter(results.values())).tasks)
    if html is not None:
        from conformergen.workflows.report import write_html

        write_html(html, results)
    sys.stdout.flush()


@app.command()
def view(
    source: Annotated[Path, typer.Argument(help="Conformers, in any format that evaluate reads.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="HTML page.")],
) -> None:
    """Make a page that shows conformers offline: 3D, overlay, energies, torsions."""
    from conformergen.workflows.view import view as make

    make(source).save(out)
