"""Digests of what the commands write: taken before a change that must not alter any output, compared after it.

    python tests/golden_digests.py write runs/golden.json
    python tests/golden_digests.py check runs/golden.json

Thirteen runs of ``generate`` (methods, formats, stereo modes, worker processes, salts, a macrocycle, constraints, a
resumed run), three shards, a tiny training, an evaluation report and an export. Every entry has two digests: one of the
bytes, and one of the content alone (coordinates, energies, weights), which a renamed property leaves as it is. Digests
hold for one machine and one set of versions: floating-point results differ between processors.
"""

import argparse
import hashlib
import json
import os
import pickle
import subprocess
import sys
import tempfile
from pathlib import Path

import h5py
import numpy as np
from safetensors.numpy import load_file

DRUGS = """CC(C)Cc1ccc(cc1)[C@@H](C)C(=O)O dexibuprofen
CC(=O)Nc1ccc(O)cc1 paracetamol
CNCC[C@H](Oc1cccc2ccccc12)c1cccs1 duloxetine
COc1ccc2[nH]c(S(=O)Cc3ncc(C)c(OC)c3C)nc2c1 omeprazole
"""
OPEN_STEREO = """CC(O)C(N)CO two-centres
CC=CC(C)O alkene
C[C@H](O)CC fixed
OC(CN1C=NC=N1)(CN1C=NC=N1)c1ccc(F)cc1F fluconazole
"""
SALTS = """smiles,name,n_conformers
CC(C)NCC(O)COc1ccccc1.Cl,salt,2
[Na+].CC(=O)[O-],acetate,1
OCC1OC(O)C(O)C(O)C1O,sugar,2
not-a-smiles,broken,1
"""
MACROCYCLE = "O=C1CCCCCCCCCCCCCCO1 exaltolide\n"
CONSTRAINED = "CCCCO butanol\nOCCCCN aminobutanol\n"
#: More molecules than a block holds, so that a run can be killed after one.
MANY = "".join(f"{'C' * (1 + i % 9)}O chain{i}\n" for i in range(70))
#: SDF properties that are content: what was made, not how the program calls it.
CONTENT_FIELDS = ("conformergen_smiles", "conformergen_stereo", "conformer", "energy_kcal", "boltzmann_weight", "seed")
GENERATE = {
    "model": ("drugs.smi", "model.sdf", ["-n", "6"]),
    "model-jobs": ("drugs.smi", "model-jobs.sdf.gz", ["-n", "6", "--jobs", "2"]),
    "model-xyz": ("drugs.smi", "model.xyz", ["-n", "5", "--steps", "2", "--pool", "1"]),
    "model-shard": ("drugs.smi", "model.h5", ["-n", "4", "--seed", "3", "--seeds", "etkdg"]),
    "model-pickle": ("drugs.smi", "model.pkl", ["-n", "3", "--sampler", "heun", "--seeds", "etkdg+mmff94s"]),
    "etkdg": ("drugs.smi", "etkdg.sdf", ["-n", "6", "--method", "etkdg"]),
    "etkdg-refined": (
        "drugs.smi", "refined.sdf",
        ["-n", "8", "--method", "etkdg+mmff94s", "--refine", "uff", "--rms", "0.5", "--ewin", "10"],
    ),
    "torsion": ("drugs.smi", "torsion.sdf", ["-n", "10", "--method", "torsion+mmff94s", "--ewin", "8", "--rms", "0.3"]),
    "enumerate": ("stereo.smi", "enumerate.sdf", ["-n", "3", "--stereo", "enumerate"]),
    "salts": ("salts.csv", "salts.sdf", ["-n", "2K", "--max-failures", "2"]),
    "macrocycle": ("macrocycle.smi", "macrocycle.sdf", ["-n", "4", "--refine", "mmff94s"]),
    "constrained": (
        "constrained.smi", "constrained.sdf",
        ["-n", "4", "--method", "etkdg+mmff94s", "--torsion", "[C:1][C:2][C:3][C:4]=60"],
    ),
}  # fmt: skip


def run(folder: Path, *arguments: str, fault: str = "", killed: bool = False) -> None:
    """One command of the package that is first on the path."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "CG_FAULT": fault}
    done = subprocess.run(
        [sys.executable, "-m", "conformergen", *arguments], cwd=folder, env=environment, capture_output=True, text=True
    )
    if killed != (done.returncode == -9) or (not killed and done.returncode not in (0, 1)):
        raise SystemExit(f"{' '.join(arguments)}: exit {done.returncode}\n{done.stderr[-3000:]}")


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def sdf_content(text: str) -> str:
    """Titles, coordinates and values of the records, without the names of other properties."""
    kept = []
    for record in text.split("$$$$\n")[:-1]:
        lines = record.split("\n")
        kept += [lines[0], *lines[3 : lines.index("M  END")]]
        for place, line in enumerate(lines):
            if line.startswith("> ") and line.split("<")[1].split(">")[0] in CONTENT_FIELDS:
                kept.append(lines[place + 1])
    return "\n".join(kept)


def digests(path: Path) -> dict[str, str]:
    """Digest of the bytes and of the content of one file."""
    data = path.read_bytes()
    content = data
    if path.suffix == ".gz":
        import gzip

        content = gzip.decompress(data)
    if ".sdf" in path.name:
        content = sdf_content(content.decode()).encode()
    elif path.suffix == ".h5":
        with h5py.File(path) as file:
            content = b"".join(name.encode() + np.asarray(file[name]).tobytes() for name in sorted(file))
    elif path.suffix == ".pkl":
        mols = pickle.loads(data)  # noqa: S301  our own file
        content = b"".join(m.GetConformer().GetPositions().tobytes() for v in mols.values() for m in v)
    elif path.suffix == ".safetensors":
        arrays = load_file(path)
        content = b"".join(name.encode() + arrays[name].tobytes() for name in sorted(arrays))
    elif path.suffix == ".json":
        report = json.loads(data)
        rows = {key: report[key] for key in ("rows", "succeeded_only", "geodiff", "stereo_strict", "curve", "checks")}
        content = json.dumps(rows, sort_keys=True).encode()
    return {"bytes": sha256(data), "content": sha256(content)}


def collect(folder: Path) -> dict[str, dict[str, str]]:
    """Run everything in ``folder``; digests by name."""
    inputs = {"drugs.smi": DRUGS, "stereo.smi": OPEN_STEREO, "salts.csv": SALTS, "macrocycle.smi": MACROCYCLE}
    for name, text in (inputs | {"constrained.smi": CONSTRAINED, "many.smi": MANY}).items():
        (folder / name).write_text(text)
    made: dict[str, Path] = {}
    for name, (source, out, options) in GENERATE.items():
        run(folder, "generate", source, "-o", out, *options)
        made[f"generate {name}"] = folder / out
    resumed = ["generate", "many.smi", "-o", "resumed.sdf", "-n", "1", "--method", "etkdg"]
    run(folder, *resumed, fault="generate.block:1", killed=True)
    run(folder, *resumed, "--resume")
    made["generate resumed"] = folder / "resumed.sdf"
    for pairing in ("assigned", "relaxed", "turned"):
        run(folder, "preprocess", "etkdg.sdf", "-o", pairing, "--pairing", pairing, "--split", "train")
        made[f"shard {pairing}"] = folder / pairing / "shard-00000.h5"
    training = ["--preset", "tiny", "--steps", "12", "--set", "training.checkpoint_every=6", "--relaxation", "none"]
    run(folder, "train", "--data", "relaxed", "-o", "run", *training)
    made["train"] = folder / "run" / "ckpt-00000012" / "model.safetensors"
    checks = ["--checks", "stereo,rings"]
    run(folder, "evaluate", "model.sdf", "--reference", "torsion.sdf", "-o", "report.json", *checks)
    made["evaluate"] = folder / "report.json"
    run(folder, "export", "default", "-o", "exported", "--exact")
    made["export"] = folder / "exported" / "model.safetensors"
    return {name: digests(path) for name, path in made.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["write", "check"])
    parser.add_argument("digests", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = collect(Path(folder))
    if options.action == "write":
        options.digests.write_text(json.dumps(found, indent=1) + "\n")
        return
    known = json.loads(options.digests.read_text())
    changed = 0
    for name, own in found.items():
        parts = [part for part, value in own.items() if known[name][part] != value]
        changed += "content" in parts
        print(f"{name}: {' and '.join(parts) + ' differ' if parts else 'equal'}")
    raise SystemExit(1 if changed else 0)


if __name__ == "__main__":
    main()
