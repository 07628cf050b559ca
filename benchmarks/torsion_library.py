"""The torsion library of the package, counted from GFN2-xTB minima.

    python benchmarks/torsion_library.py data/reference-drugs/{relaxed,ensembles} -o conformergen/chem/torsions.npz

Prints how well a library of nine tenths of the molecules predicts the torsions of the others: mean cross-entropy,
nats for each torsion in bins of ten degrees, beside that of a uniform draw and the least that there is.
"""

import argparse
from pathlib import Path

import numpy as np

from conformergen.chem import get_torsions, rotors, to_mol
from conformergen.chem.torsion_library import BINS, TorsionLibrary, count, save_library, surroundings
from conformergen.datasets.shards import read_shard
from conformergen.workflows.train_ranker import is_held_out

#: Surroundings seen in a single molecule are left out.
LEAST = 2


def minima(folder: Path):
    """Whether held out, rotors with their surroundings, torsions and energies of each molecule with a rotor."""
    for path in sorted(folder.glob("*.h5")):
        for entry in read_shard(path):
            conformers = entry.conformers
            mol = to_mol(conformers.molecule)
            found = surroundings(conformers.molecule.graph, rotors(mol)[:, 1:3])
            if len(found.quartets) and conformers.energies is not None:
                degrees = [get_torsions(mol, p, found.quartets) for p in conformers.positions.astype(np.float64)]
                yield is_held_out(conformers.molecule), found, np.array(degrees), conformers.energies


def cross_entropy(library: TorsionLibrary, molecules, *, uniform: float) -> tuple[float, float]:
    """Of the library's distributions, and of the true ones: the least that there is."""
    values = []
    for found, degrees, energies in molecules:
        p = library.distributions(found, uniform=uniform)
        own = count([(found, degrees, energies)])
        for rotor in range(len(found.quartets)):
            seen = own.counts[-1][int(found.keys[-1, rotor])]
            true = seen / seen.sum()
            values.append([-(true * np.log(q)).sum() for q in (p[rotor], np.maximum(true, 1e-12))])
    library_nats, least = np.mean(values, axis=0).tolist()
    return library_nats, least


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("minima", type=Path, nargs="+", help="shards of GFN2-xTB minima")
    parser.add_argument("-o", "--out", type=Path, required=True)
    options = parser.parse_args()
    every = [m for folder in options.minima for m in minima(folder)]
    held_out = [m[1:] for m in every if m[0]]
    partial = count(m[1:] for m in every if not m[0])
    for share in (0.01, 0.1, 0.3, 1.0):
        nats, least = cross_entropy(partial, held_out, uniform=share)
        print(f"held out, uniform share {share:g}: {nats:.3f} (at least {least:.3f})")
    save_library(count(m[1:] for m in every), options.out, least=LEAST)
    print(f"{len(every)} molecules, {BINS} bins, {options.out.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
