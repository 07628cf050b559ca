"""Requested against emitted stereo, judged by RDKit's perception from the 3D structures, not by our own check.

python benchmarks/stereo.py molecules.smi -o runs/stereo.sdf [-n 5] [--limit 200] [--checkpoint default]
"""

import argparse
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

from rdkit import Chem


def perceived(mol: Chem.Mol) -> Chem.Mol:
    """Copy whose stereo labels come from the coordinates alone."""
    copy = Chem.Mol(mol)
    Chem.RemoveStereochemistry(copy)
    Chem.AssignStereochemistryFrom3D(copy)
    return copy


def agrees(requested: str, mol: Chem.Mol) -> bool:
    """Whether every stereo element of the SMILES is found in the structure."""
    query = Chem.MolFromSmiles(requested)
    target = Chem.RemoveHs(perceived(mol))
    return target.HasSubstructMatch(query, useChirality=True) and target.GetNumAtoms() == query.GetNumAtoms()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("-n", default="5")
    parser.add_argument("--limit", default="200")
    parser.add_argument("--checkpoint", default="default")
    options = parser.parse_args()
    command = [sys.executable, "-m", "conformergen", "generate", str(options.source), "-o", str(options.out)]
    command += ["-n", options.n, "--limit", options.limit, "--checkpoint", options.checkpoint, "--jobs", "1"]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True)
    if done.returncode not in (0, 1):
        raise SystemExit(done.stderr)
    summary = json.loads(done.stderr.strip().splitlines()[-1])
    counts: Counter[str] = Counter()
    for mol in Chem.SDMolSupplier(str(options.out), removeHs=False):
        counts["conformers"] += 1
        counts["right"] += agrees(mol.GetProp("conformergen_smiles"), mol)
        if not agrees(mol.GetProp("conformergen_smiles"), mol):
            print("differs:", mol.GetProp("_Name"), mol.GetProp("conformergen_smiles"))
    print(json.dumps(summary))
    print(
        json.dumps({**counts, "requested = done + failed": summary["requested"] == summary["done"] + summary["failed"]})
    )


if __name__ == "__main__":
    main()
