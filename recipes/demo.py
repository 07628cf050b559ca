"""`make demo`: the whole path on bundled molecules, in minutes on a CPU.

Preprocesses the bundled GFN2-xTB set, trains `tiny` for a minute, generates conformers of the ten held-out drugs
with the shipped model and both ETKDG baselines, scores them and leaves an SDF and an HTML report.
"""

import csv
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

from rdkit import Chem

from conformergen.chem import mol_with_conformers
from conformergen.commands.evaluate import evaluate
from conformergen.io.shards import read_folder
from conformergen.reports.evaluation_report import write_html

ROOT = Path(__file__).parent.parent
BUNDLED = ROOT / "data" / "reference-mini"
#: References of a molecule that are scored, and so samples made, at most.
CAP = 25


def run(*arguments: str) -> dict:
    """One conformergen command; its summary line."""
    print("$ conformergen", *arguments, flush=True)
    done = subprocess.run([sys.executable, "-m", "conformergen", *arguments], stderr=subprocess.PIPE, text=True)
    if done.returncode not in (0, 1):
        raise SystemExit(done.stderr)
    return json.loads(done.stderr.strip().splitlines()[-1])


def main() -> None:
    began = time.monotonic()
    out = Path(sys.argv[1])
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    shards = out / "shards"
    pattern = ["--max-confs", "4", "--split", str(BUNDLED / "split.json"), "--jobs", "2"]
    print(run("preprocess", str(BUNDLED), "-o", str(shards), *pattern))
    print(run("train", "--data", str(shards), "-o", str(out / "tiny"), "--preset", "tiny", "--time-limit", "60s"))
    rows = [("smiles", "name", "n_conformers")]
    with Chem.SDWriter(str(out / "reference.sdf")) as writer:
        for conformers in read_folder(BUNDLED, split="test"):
            molecule, positions = conformers.molecule, conformers.positions[:CAP]
            rows.append((molecule.smiles, molecule.name, len(positions)))
            mol = mol_with_conformers(molecule, positions)
            mol.SetProp("_Name", molecule.name)
            mol.SetProp("SMILES", molecule.smiles)
            for conformer in mol.GetConformers():
                writer.write(mol, confId=conformer.GetId())
    with (out / "drugs.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    results, costs = {}, {}
    for method in ("model", "etkdg", "etkdg+mmff94s"):
        path = out / f"{method}.sdf"
        summary = run(
            "generate", str(out / "drugs.csv"), "-o", str(path), "-n", "2K", "--method", method, "--jobs", "1"
        )
        costs[method] = summary["cpu_seconds_per_conformer"]
        results[method] = evaluate(path, out / "reference.sdf")
    print(f"\nTen drugs the model has not seen, n = 2K, K <= {CAP}, threshold 0.75 Å; mean over molecules\n")
    print(f"{'method':16s} {'COV-R %':>8s} {'MAT-R Å':>8s} {'COV-P %':>8s} {'MAT-P Å':>8s} {'CPU s/conformer':>16s}")
    for method, result in results.items():
        means = [result.result.main[m].mean for m in ("cov_r", "mat_r", "cov_p", "mat_p")]
        print(f"{method:16s} {means[0]:8.1f} {means[1]:8.3f} {means[2]:8.1f} {means[3]:8.3f} {costs[method]:16.3f}")
    write_html(
        out / "report.html",
        {method: r.result for method, r in results.items()},
        {method: r.scores for method, r in results.items()},
    )
    print(f"\n{out}/model.sdf, {out}/report.html; {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
