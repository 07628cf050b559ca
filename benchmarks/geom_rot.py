"""The model beside both ETKDG baselines on genuine GEOM-Drugs ensembles: same molecules, n, seed and run.

    python benchmarks/geom_rot.py EXCERPT.sdf.gz -o runs/geom-rot [--select 'geomdrugs_rot*'] [--strain 2]

EXCERPT is a multi-conformer SDF with a SMILES property (GEOM-Drugs molecules, GFN2-xTB minima). Each method makes
2K conformers of every molecule, K capped at 100 by taking the first 100 references. Writes a Markdown table, JSON
reports and an HTML report. ``--strain N`` also relaxes N conformers of each molecule with GFN2-xTB (needs xtb).
"""

import argparse
import csv
import fnmatch
import gzip
import json
import platform
import subprocess
import sys
from datetime import date
from pathlib import Path

import numpy as np
import rdkit
from rdkit import Chem

import conformergen
from conformergen.chem import heavy_atoms, symmetry_group
from conformergen.commands.evaluate import evaluate
from conformergen.evaluation.metrics import METRICS
from conformergen.evaluation.summary import paired
from conformergen.generation.settings import GenerateSettings
from conformergen.geometry.duplicates import farthest_first
from conformergen.io.formats.sdf import read
from conformergen.refinement import xtb
from conformergen.reports.evaluation_report import write_html
from conformergen.units import HARTREE_TO_KCAL


def prepare(excerpt: Path, out: Path, pattern: str, cap: int) -> int:
    """References and request list; returns the number of molecules."""
    rows = []
    with Chem.SDWriter(str(out / "reference.sdf")) as writer:
        for raw in read(excerpt):
            if not fnmatch.fnmatchcase(raw.name, pattern):
                continue
            for mol in raw.conformers[:cap]:
                writer.write(mol)
            rows.append((raw.smiles, raw.name, min(len(raw.conformers), cap)))
    with (out / "molecules.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("smiles", "name", "n_conformers"), *rows])
    return len(rows)


def thin(path: Path, wanted: dict[str, int], out: Path) -> None:
    """Of each molecule's conformers, as many as wanted: the first, then each time the farthest from those taken."""
    with gzip.open(out, "wt") as file, Chem.SDWriter(file) as writer:
        for raw in read(path):
            mol = raw.conformers[0]
            heavy = heavy_atoms(mol)
            positions = np.array([m.GetConformer().GetPositions()[heavy] for m in raw.conformers])
            for index in farthest_first(positions, symmetry_group(mol), wanted[raw.name]):
                writer.write(raw.conformers[index])


def generate(method: str, out: Path, checkpoint: str, rounds: int, seed: int) -> tuple[Path, dict]:
    """Run the command, unless an earlier run of this benchmark finished it; returns the file and its summary line.

    ``METHOD:N:W:R`` is the method with ``--pool N``, ``--ewin W`` and ``--refine R``, each of which may be empty or
    left out; ``METHOD*M`` makes M times as many conformers and keeps diverse ones.
    """
    plain, _, factor = method.partition("*")
    name, *options = plain.split(":")
    more = int(factor or 1)
    path, record = out / f"{method}.sdf.gz", out / f"{method}.summary.json"
    if path.exists() and record.exists():
        return path, json.loads(record.read_text())
    command = [
        sys.executable,
        "-m",
        "conformergen",
        "generate",
        str(out / "molecules.csv"),
        "-o",
        str(path) if more == 1 else str(out / f"{method}.all.sdf.gz"),
        "-n",
        f"{2 * more}K",
    ]
    command += ["--method", name, "--checkpoint", checkpoint, "--rounds", str(rounds), "--jobs", "1"]
    command += ["--seed", str(seed)]
    for flag, value in zip(("--pool", "--ewin", "--refine"), options, strict=False):
        command += [flag, value] if value else []
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode not in (0, 1):
        raise SystemExit(done.stderr)
    summary = json.loads(done.stderr.strip().splitlines()[-1])
    if more > 1:
        with (out / "molecules.csv").open(newline="") as file:
            wanted = {row["name"]: 2 * int(row["n_conformers"]) for row in csv.DictReader(file)}
        thin(out / f"{method}.all.sdf.gz", wanted, path)
        summary["cpu_seconds_per_conformer"] *= more  # of a conformer that is kept; choosing them not counted
    record.write_text(json.dumps(summary))
    return path, summary


def strain(path: Path, per_molecule: int) -> np.ndarray:
    """GFN2-xTB energy released on relaxation, kcal/mol, of the first conformers of each molecule; kept beside them."""
    record = path.with_name(f"{path.name}.strain-{per_molecule}.json")
    if record.exists():
        return np.array(json.loads(record.read_text()))
    values = []
    for raw in read(path):
        for mol in raw.conformers[:per_molecule]:
            numbers = np.array([a.GetAtomicNum() for a in mol.GetAtoms()], dtype=np.uint8)
            positions, charge = mol.GetConformer().GetPositions(), Chem.GetFormalCharge(mol)
            before = xtb.single_point(numbers, positions, charge=charge)
            after = xtb.optimise(numbers, positions, charge=charge, method="gfn2-xtb")
            if before is not None and after is not None:
                values.append((before - after[1]) * HARTREE_TO_KCAL)
    record.write_text(json.dumps(values))
    return np.array(values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("excerpt", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--select", default="geomdrugs_rot*")
    parser.add_argument("--cap", type=int, default=100)
    parser.add_argument("--checkpoint", default="default")
    parser.add_argument("--rounds", type=int, default=GenerateSettings.rounds)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--methods", default="model,etkdg,etkdg+mmff94s")
    parser.add_argument("--strain", type=int, default=0)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    n = prepare(options.excerpt, options.out, options.select, options.cap)
    results, lines = {}, []
    for method in options.methods.split(","):
        path, summary = generate(method, options.out, options.checkpoint, options.rounds, options.seed)
        results[method] = evaluate(path, options.out / "reference.sdf")
        report = results[method].report
        (options.out / f"{method}.json").write_text(json.dumps(report, indent=1))
        row = report["rows"]["0.75"]
        cells = [
            f"{row[m]['mean']:.3f} / {row[m]['median']:.3f} [{row[m]['low']:.3f}, {row[m]['high']:.3f}]"
            for m in METRICS
        ]
        released = strain(path, options.strain) if options.strain else np.array([])
        quartiles = " ".join(f"{q:.1f}" for q in np.quantile(released, [0.25, 0.5, 0.75])) if len(released) else "–"
        lines.append(
            f"| {method} | {' | '.join(cells)} | {report['n_scored']} | {report['n_failed']} | {report['n_samples']} "
            f"| {report['n_wrong_stereo_samples']} | {quartiles} | {summary['cpu_seconds_per_conformer']:.3f} "
            f"| {summary['redrawn']} / {summary['fallback']} |"
        )
        print(lines[-1], flush=True)
    names = list(results)
    differences = []
    for metric in METRICS:
        base = {m["name"]: m[metric] for m in results[names[-1]].report["molecules"]}
        own = {m["name"]: m[metric] for m in results[names[0]].report["molecules"]}
        common = [k for k in own if own[k] is not None and base.get(k) is not None]
        d = paired([own[k] for k in common], [base[k] for k in common])
        differences.append(f"{metric} {d.mean:+.3f} [{d.low:+.3f}, {d.high:+.3f}]")
    text = "\n".join(
        [
            f"{n} molecules, n = 2K, K <= {options.cap}, seed {options.seed}, threshold 0.75 Å, strict <; "
            "mean / median [95 % interval of the mean over molecules].",
            "",
            "| method | COV-R % | MAT-R Å | COV-P % | MAT-P Å | molecules | without samples | samples | wrong stereo "
            "| GFN2 strain kcal/mol, quartiles | CPU s per conformer | redrawn / fallback |",
            "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
            *lines,
            "",
            f"Paired, {names[0]} less {names[-1]}: " + "; ".join(differences) + ".",
            "",
            f"{date.today()}, conformergen {conformergen.__version__}, RDKit {rdkit.__version__}, Python "
            f"{platform.python_version()}, {platform.machine()}, one core. Command: `python benchmarks/geom_rot.py "
            f"EXCERPT.sdf.gz -o OUT --rounds {options.rounds} --seed {options.seed} --strain {options.strain}`",
        ]
    )
    (options.out / "table.md").write_text(text + "\n")
    write_html(
        options.out / "report.html",
        {method: r.result for method, r in results.items()},
        {method: r.scores for method, r in results.items()},
    )
    print(text)


if __name__ == "__main__":
    main()
