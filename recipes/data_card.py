"""Distributions of a data set, for its card: one picture and the counts behind it.

    cd data/training
    python ../../recipes/data_card.py ensembles complete minima optimised candidates samples singles single-points \
        -o distributions.png

Each argument is a folder of shards, with or without a manifest. Needs matplotlib.
"""

import argparse
from collections import Counter
from pathlib import Path

import matplotlib as mpl
import numpy as np
from rdkit import Chem
from rdkit.Chem import rdMolDescriptors
from rdkit.Chem.Scaffolds.MurckoScaffold import MurckoScaffoldSmiles

from conformergen.io.shards import read_shard

mpl.use("Agg")
from matplotlib import pyplot as plt


def described(folder: Path) -> dict[str, list]:
    """What the panels show, one value for each molecule or conformer."""
    values: dict[str, list] = {name: [] for name in ("heavy atoms", "rotatable bonds", "rings", "charge")}
    values |= {"elements": [], "conformers": [], "relative energy, kcal/mol": [], "scaffolds": []}
    for path in sorted(folder.glob("*.h5")):
        for entry in read_shard(path):
            s = entry.conformers
            mol = Chem.MolFromSmiles(s.molecule.smiles)
            values["heavy atoms"].append(mol.GetNumAtoms())
            values["rotatable bonds"].append(rdMolDescriptors.CalcNumRotatableBonds(mol))
            values["rings"].append(rdMolDescriptors.CalcNumRings(mol))
            values["charge"].append(Chem.GetFormalCharge(mol))
            values["elements"] += sorted({a.GetSymbol() for a in mol.GetAtoms()})
            values["conformers"].append(len(s))
            values["scaffolds"].append(MurckoScaffoldSmiles(mol=mol))
            if s.energies is not None and len(s) > 1:
                values["relative energy, kcal/mol"] += (s.energies - s.energies.min()).tolist()
    return values


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("-o", "--out", type=Path, required=True)
    options = parser.parse_args()
    sets = {folder.name: described(folder) for folder in options.folders}
    panels = [name for name in next(iter(sets.values())) if name != "scaffolds"]
    figure, axes = plt.subplots(2, 4, figsize=(15, 6.5))
    for axis, name in zip(axes.flat, panels, strict=False):
        if name == "elements":
            symbols = [e for e, _ in Counter(x for s in sets.values() for x in s[name]).most_common()]
            width = 0.8 / len(sets)
            for i, (label, s) in enumerate(sets.items()):
                counts = Counter(s[name])
                share = [counts[e] / max(1, len(s["heavy atoms"])) for e in symbols]
                axis.bar(np.arange(len(symbols)) + i * width, share, width, label=label)
            axis.set_xticks(np.arange(len(symbols)) + 0.4 - width / 2, symbols)
            axis.set_ylabel("share of molecules")
        else:
            pooled = np.concatenate([np.asarray(s[name], dtype=float) for s in sets.values()])
            whole = name != "relative energy, kcal/mol"
            bins = np.arange(pooled.min() - 0.5, pooled.max() + 1.5) if whole else np.linspace(0, pooled.max(), 25)
            for label, s in sets.items():
                if s[name]:
                    axis.hist(s[name], bins=bins, density=True, histtype="step", linewidth=1.8, label=label)
            axis.set_ylabel("density")
            if name == "conformers":
                axis.set_yscale("log")
        axis.set_xlabel(name)
    handles, labels = axes.flat[0].get_legend_handles_labels()
    axes.flat[-1].axis("off")
    lines = []
    for name in labels:
        s = sets[name]
        scaffolds, conformers = len(set(s["scaffolds"])), sum(s["conformers"])
        lines.append(f"{name}: {len(s['charge'])} molecules,\n{scaffolds} scaffolds, {conformers} conformers")
    axes.flat[-1].legend(handles, lines, loc="upper left", frameon=False)
    figure.tight_layout()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(options.out, dpi=80)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
