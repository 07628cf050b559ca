"""Pictures of the README: conformers of a drug, superposed, and quality against cost.

    python recipes/readme_figures.py -o docs/images [--benchmark runs/geom-rot]

``--benchmark`` is the output folder of ``benchmarks/geom_rot.py`` with several methods; their reports and summaries
give the second picture. Both pictures have a transparent background and colours that can be read on white and black.
"""

import argparse
import json
from pathlib import Path

import matplotlib as mpl
import numpy as np
from rdkit import Chem
from rdkit.Chem import rdMolAlign

import conformergen

mpl.use("svg")
from matplotlib import pyplot as plt

#: Propranolol.
DRUG = "CC(C)NC[C@H](O)COc1cccc2ccccc12"
N_SHOWN = 12
#: Grey that can be read on light and on dark pages.
GREY = "#7a8794"
ELEMENT_COLOURS = {6: "#7a8794", 7: "#3f7fd6", 8: "#d9534f"}
#: Name in the files of the benchmark, label in the picture, colour, and place of the label beside the point.
METHODS = (
    ("etkdg", "ETKDGv3", GREY, (8, -4)),
    ("etkdg+mmff94s", "ETKDGv3 + MMFF94s", GREY, (-8, 8)),
    ("torsion+mmff94s", "conformergen, no network", "#2a9d8f", (8, -4)),
    ("model:1", "conformergen --pool 1", "#e07a1f", (4, 8)),
    ("model", "conformergen", "#e07a1f", (8, -4)),
)


def draw_conformers(path: Path) -> None:
    """Superpose conformers on the naphthalene and draw their bonds in projection, the nearest ones darkest."""
    mol = Chem.RemoveHs(conformergen.generate(DRUG, n=N_SHOWN))
    rings = [a.GetIdx() for a in mol.GetAtoms() if a.GetIsAromatic()]
    rdMolAlign.AlignMolConformers(mol, atomIds=rings)
    positions = np.array([c.GetPositions() for c in mol.GetConformers()])
    positions -= positions[:, rings].mean(axis=(0, 1))
    _, _, axes = np.linalg.svd(positions.reshape(-1, 3), full_matrices=False)
    flat = positions @ axes.T
    figure, axis = plt.subplots(figsize=(4.6, 3.0), layout="constrained")
    for conformer in flat[np.argsort(flat[..., 2].mean(axis=1))]:
        for bond in mol.GetBonds():
            ends = (bond.GetBeginAtom(), bond.GetEndAtom())
            middle = conformer[[a.GetIdx() for a in ends]].mean(axis=0)
            for atom in ends:
                x, y = np.array([conformer[atom.GetIdx()], middle])[:, :2].T
                colour = ELEMENT_COLOURS[atom.GetAtomicNum()]
                axis.plot(x, y, color=colour, lw=2.2, alpha=0.75, solid_capstyle="round")
    axis.set_aspect("equal")
    axis.axis("off")
    figure.savefig(path, transparent=True)


def draw_quality(folder: Path, path: Path) -> None:
    """Mean of MAT-R and MAT-P against CPU time, both of one run."""
    figure, axis = plt.subplots(figsize=(4.6, 3.0), layout="constrained")
    base = json.loads((folder / "etkdg.summary.json").read_text())["cpu_seconds_per_conformer"]
    for name, label, colour, place in METHODS:
        row = json.loads((folder / f"{name}.json").read_text())["rows"]["0.75"]
        cost = json.loads((folder / f"{name}.summary.json").read_text())["cpu_seconds_per_conformer"] / base
        error = (row["mat_r"]["mean"] + row["mat_p"]["mean"]) / 2
        axis.plot(cost, error, "o", color=colour, ms=7)
        side = "left" if place[0] > 0 else "right"
        axis.annotate(label, (cost, error), place, textcoords="offset points", color=colour, fontsize=8.5, ha=side)
    axis.set_xlim(0.6, None)
    axis.set_xlabel("CPU time, relative to ETKDGv3", color=GREY)
    axis.set_ylabel("mean distance to references, Å", color=GREY)
    axis.tick_params(colors=GREY)
    for spine in axis.spines.values():
        spine.set_color(GREY)
    axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, transparent=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--benchmark", type=Path)
    options = parser.parse_args()
    plt.rcParams["svg.hashsalt"] = "conformergen"
    draw_conformers(options.out / "conformers.svg")
    if options.benchmark:
        draw_quality(options.benchmark, options.out / "quality.svg")


if __name__ == "__main__":
    main()
