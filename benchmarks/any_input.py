"""Any molecule in: every 60th line of all lists of a folder, n = 5, beside plain ETKDGv3 with RDKit's defaults.

    python benchmarks/any_input.py LISTS -o runs/any [--every 60] [-n 5] [--busted 4] [--method model]

Counts requested, done and failed by reason; the share of lines that RDKit parses and that hold no metal which get their
conformers; the stereo of every emitted conformer by RDKit's perception from its coordinates; and PoseBusters' checks on
the conformers of every fourth molecule.
"""

import argparse
import csv
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from rdkit import Chem, RDLogger
from rdkit.Chem import rdDistGeom
from stereo import agrees

from conformergen.evaluation.checks import CHECKS, CheckSettings, run_check
from conformergen.evaluation.scoring import ScoringTask, score_molecule

#: Elements that organic force fields and embeddings know; everything else counts as a metal.
NON_METALS = {1, 2, 5, 6, 7, 8, 9, 10, 14, 15, 16, 17, 18, 32, 33, 34, 35, 36, 52, 53, 54}


def lines(folder: Path) -> Iterator[str]:
    """SMILES and name of every line of every list, in order of the files' names."""
    for path in sorted(folder.iterdir()):
        if path.suffix == ".smi":
            yield from (line for line in path.read_text().splitlines() if line.strip())
        elif path.suffix == ".csv":
            with path.open(newline="") as file:
                yield from (f"{row['smiles']} {row.get('id', '')}" for row in csv.DictReader(file))


def organic(smiles: str) -> bool:
    """Whether RDKit parses it and it holds no metal."""
    mol = Chem.MolFromSmiles(smiles)
    return mol is not None and all(a.GetAtomicNum() in NON_METALS for a in mol.GetAtoms())


def plain_etkdg(smiles: list[str], n: int) -> dict[str, float]:
    """ETKDGv3 with defaults, salts and open stereo as they are: lines with n conformers, and their stereo."""
    counts: Counter[str] = Counter()
    began = time.process_time()
    for text in smiles:
        mol = Chem.MolFromSmiles(text)
        if mol is None:
            counts["unreadable"] += 1
            continue
        full = Chem.AddHs(mol)
        parameters = rdDistGeom.ETKDGv3()
        parameters.randomSeed, parameters.timeout = 61, 60
        try:
            found = len([i for i in rdDistGeom.EmbedMultipleConfs(full, n, parameters) if i >= 0])
        except (RuntimeError, ValueError):
            found = 0
        counts["complete"] += found == n
        counts["none"] += found == 0
        counts["conformers"] += found
        counts["stereo_right"] += sum(
            agrees(Chem.MolToSmiles(mol), Chem.Mol(full, confId=c.GetId())) for c in full.GetConformers()
        )
    return {**counts, "cpu_seconds": round(time.process_time() - began, 1)}


def main() -> None:
    RDLogger.DisableLog("rdApp.*")  # type: ignore[attr-defined]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lists", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--every", type=int, default=60)
    parser.add_argument("-n", type=int, default=5)
    parser.add_argument("--busted", type=int, default=4, help="PoseBusters on every so many molecules; 0 for none")
    parser.add_argument("--method", default="model")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    drawn = list(lines(options.lists))[:: options.every]
    source, made = options.out / "lines.smi", options.out / f"{options.method}.sdf.gz"
    source.write_text("\n".join(drawn) + "\n")
    command = [sys.executable, "-m", "conformergen", "generate", str(source), "-o", str(made), "-n", str(options.n)]
    began = time.monotonic()
    if not made.exists():
        done = subprocess.run(
            [*command, "--method", options.method, "--resume", "--jobs", "2"], stderr=subprocess.PIPE, text=True
        )
        if done.returncode not in (0, 1):
            raise SystemExit(done.stderr)
        (options.out / "summary.json").write_text(done.stderr.strip().splitlines()[-1])
    summary = json.loads((options.out / "summary.json").read_text())
    failures = Path(f"{made}.failures.jsonl")
    failed = [json.loads(line) for line in failures.read_text().splitlines()] if failures.exists() else []
    wanted = [i for i, line in enumerate(drawn) if organic(line.split()[0])]
    missing = {f["index"] for f in failed}
    groups: dict[str, list[Chem.Mol]] = {}
    counts: Counter[str] = Counter()
    import gzip

    with gzip.open(made) as raw:
        for mol in Chem.ForwardSDMolSupplier(raw, removeHs=False):
            requested = mol.GetProp("conformergen_smiles")
            right = agrees(requested, mol)
            counts["conformers"] += 1
            counts["stereo_right"] += right
            counts[f"fallback {mol.GetProp('fallback')}"] += 1
            if not right:
                print("stereo differs:", mol.GetProp("_Name"), requested)
            groups.setdefault(requested, []).append(mol)
    result = {
        "lines": len(drawn),
        "summary": summary,
        "failed_by_reason": dict(Counter(f["reason"] for f in failed)),
        "parsed_without_metal": len(wanted),
        "of_these_with_conformers_percent": 100.0 * sum(i not in missing for i in wanted) / len(wanted),
        "of_these_without": [
            (drawn[i][:80], next(f["reason"] for f in failed if f["index"] == i)) for i in wanted if i in missing
        ],
        **counts,
        "wall_seconds": round(time.monotonic() - began),
    }
    print(json.dumps(result, indent=1), flush=True)
    (options.out / f"{options.method}.json").write_text(json.dumps(result, indent=1) + "\n")
    beside = options.out / "plain.json"
    if not beside.exists():
        beside.write_text(json.dumps(plain_etkdg([line.split()[0] for line in drawn], options.n)) + "\n")
    print("plain ETKDGv3:", beside.read_text(), flush=True)
    if options.busted:
        tasks = [
            ScoringTask(name=smiles, smiles=smiles, references=mols[:1], samples=mols)
            for smiles, mols in list(groups.items())[:: options.busted]
        ]
        # Its energy check embeds fifty conformers of each molecule: minutes for a peptide.
        scores = [score_molecule(task) for task in tasks]
        settings = CheckSettings(max_samples=options.n)
        table = run_check(CHECKS["posebusters"], scores, settings, jobs=2, timeout=100.0).to_json()
        print(f"PoseBusters, {table['n_molecules']} molecules, {len(table['failed'])} without an answer")
        for name, column in table["columns"].items():
            print(f"  {name:32s} {column['passes_percent']:7.2f} % of {column['n']}")
        for row in table["molecules"]:
            if row["all_checks"] < 1.0:
                print("  ", row["name"][:90], [k for k, v in row.items() if isinstance(v, float) and v < 1.0])


if __name__ == "__main__":
    main()
