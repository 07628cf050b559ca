"""Diverse drug-like molecules for the training ensembles, none of them near the test molecules.

python recipes/select_molecules.py -o molecules.smi -n 3000 --exclude test.csv index.csv -- lists.smi ...

Kept: one fragment, H C N O F P S Cl Br I, 8 to 30 heavy atoms, 1 to 9 rotors, no radicals or isotopes, a ring.
Dropped: the InChIKey connectivity block or the Murcko scaffold of an excluded molecule, and the connectivity block of
a known one. Then MaxMin picks on Morgan fingerprints inside bins of rotors, and the bins are dealt out in turn, so that
any prefix is diverse.
"""

import argparse
import csv
import random
from pathlib import Path

from rdkit import Chem, RDLogger
from rdkit.Chem import rdFingerprintGenerator, rdMolDescriptors
from rdkit.Chem.Scaffolds import MurckoScaffold
from rdkit.SimDivFilters.rdSimDivPickers import MaxMinPicker

ELEMENTS = {1, 6, 7, 8, 9, 15, 16, 17, 35, 53}
ROTORS = range(1, 10)
#: Share of each bin of rotors: near GEOM-Drugs (median 5).
SHARES = {1: 2, 2: 3, 3: 4, 4: 5, 5: 5, 6: 5, 7: 3, 8: 2, 9: 2}
POOL = 6000


def connectivity(mol: Chem.Mol) -> str:
    return Chem.MolToInchiKey(mol).split("-")[0]


def scaffold(mol: Chem.Mol) -> str:
    return MurckoScaffold.MurckoScaffoldSmiles(mol=mol, includeChirality=False)


def read(path: Path) -> list[tuple[str, str]]:
    """(SMILES, name) of a .smi or .csv file."""
    if path.suffix == ".csv":
        with path.open(newline="") as file:
            return [(row["smiles"], row.get("id") or row.get("name") or "") for row in csv.DictReader(file)]
    lines = (line.split() for line in path.read_text().splitlines())
    return [(parts[0], parts[1] if len(parts) > 1 else "") for parts in lines if parts]


def parsed(paths: list[Path]) -> list[Chem.Mol]:
    mols = [Chem.MolFromSmiles(smiles) for path in paths for smiles, _ in read(path)]
    return [mol for mol in mols if mol is not None]


def suitable(mol: Chem.Mol, heavy: range) -> bool:
    atoms = mol.GetAtoms()
    return (
        mol.GetNumHeavyAtoms() in heavy
        and {a.GetAtomicNum() for a in atoms} <= ELEMENTS
        and not any(a.GetNumRadicalElectrons() or a.GetIsotope() for a in atoms)
        and len(Chem.GetMolFrags(mol)) == 1
        and rdMolDescriptors.CalcNumRotatableBonds(mol) in ROTORS
        and rdMolDescriptors.CalcNumRings(mol) > 0
        and abs(Chem.GetFormalCharge(mol)) <= 1
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lists", nargs="+", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("-n", type=int, default=3000)
    parser.add_argument("--heavy", nargs=2, type=int, default=(8, 30), help="fewest and most heavy atoms")
    parser.add_argument("--exclude", nargs="+", type=Path, required=True)
    parser.add_argument("--known", nargs="+", type=Path, default=[], help="lists of molecules that there are already")
    options = parser.parse_args()
    RDLogger.DisableLog("rdApp.*")
    excluded, known = parsed(options.exclude), parsed(options.known)
    scaffolds = {scaffold(mol) for mol in excluded}
    barred = {connectivity(mol) for mol in excluded + known}
    heavy = range(options.heavy[0], options.heavy[1] + 1)
    rng = random.Random(0)
    bins: dict[int, list[tuple[str, str, Chem.Mol]]] = {rotors: [] for rotors in ROTORS}
    seen: set[str] = set()
    for path in options.lists:
        for smiles, name in read(path):
            mol = Chem.MolFromSmiles(smiles)
            if mol is None or not suitable(mol, heavy) or scaffold(mol) in scaffolds:
                continue
            key = connectivity(mol)
            if key in barred or key in seen:
                continue
            seen.add(key)
            label = f"{path.stem.split('_')[0]}:{name}"
            bins[rdMolDescriptors.CalcNumRotatableBonds(mol)].append((Chem.MolToSmiles(mol), label, mol))
    print({rotors: len(items) for rotors, items in bins.items()})
    fingerprints = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=1024)
    queues = {}
    for rotors, items in bins.items():
        pool = rng.sample(items, min(POOL, len(items)))
        wanted = min(len(pool), options.n * SHARES[rotors] // sum(SHARES.values()) + 1)
        bits = [fingerprints.GetFingerprint(mol) for _, _, mol in pool]
        picks = list(MaxMinPicker().LazyBitVectorPick(bits, len(bits), wanted, seed=1))
        # MaxMin begins with the oddest molecules: shuffled, a prefix is typical of the whole.
        rng.shuffle(picks)
        queues[rotors] = [pool[i] for i in picks]
    turns = [rotors for rotors, share in SHARES.items() for _ in range(share)]
    chosen = []
    while any(queues.values()):
        rng.shuffle(turns)
        chosen += [queues[rotors].pop() for rotors in turns if queues[rotors]]
    options.out.write_text("".join(f"{smiles} {label}\n" for smiles, label, _ in chosen[: options.n]))


if __name__ == "__main__":
    main()
