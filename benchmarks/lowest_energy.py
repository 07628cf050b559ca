"""GFN2-xTB energy of the best of a few generated conformers, against the lowest of a genuine GEOM ensemble.

    python benchmarks/lowest_energy.py EXCERPT.sdf.gz GENERATED.sdf.gz [--first 2]

Both are optimised with GFN2-xTB (needs xtb). GENERATED is a file of `generate`, lowest first as the model writes it;
EXCERPT has E_REL_KCAL. Optimised structures whose bonds changed are left out.
"""

import argparse
from pathlib import Path

import numpy as np

from conformergen.chem import conformer_positions, molecule_from_smiles
from conformergen.geometry.graph import bonds_kept
from conformergen.geometry.stereo import stereo_ok
from conformergen.io.formats.interface import RawEnsemble
from conformergen.io.formats.sdf import read
from conformergen.records import Molecule
from conformergen.refinement.engines import XtbProgram


def lowest(molecule: Molecule, raw: RawEnsemble, picked: list[int]) -> float:
    """Lowest optimised energy of some conformers, kcal/mol; NaN without any."""
    engine, energies = XtbProgram(molecule), []
    for positions in conformer_positions(molecule, [raw.conformers[i] for i in picked]):
        found = None if isinstance(positions, str) else engine.optimise(np.asarray(positions, dtype=np.float64))
        if found and bonds_kept(found[0][None], molecule.graph)[0] and stereo_ok(found[0][None], molecule.graph)[0]:
            energies.append(found[1])
    return min(energies, default=float("nan"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("excerpt", type=Path)
    parser.add_argument("generated", type=Path)
    parser.add_argument("--first", type=int, default=2)
    options = parser.parse_args()
    references = {raw.name: raw for raw in read(options.excerpt)}
    differences = []
    for raw in read(options.generated):
        theirs = references[raw.name]
        molecule = molecule_from_smiles(raw.smiles)
        energies = [float(m.GetProp("E_REL_KCAL")) for m in theirs.conformers]
        ours = lowest(molecule, raw, list(range(min(options.first, len(raw.conformers)))))
        differences.append(ours - lowest(molecule, theirs, [int(np.argmin(energies))]))
        print(f"{raw.name} {differences[-1]:+.2f}", flush=True)
    values = np.array([d for d in differences if np.isfinite(d)])
    quartiles = np.quantile(values, [0.25, 0.5, 0.75]).round(2).tolist()
    near, below = (values <= 1.0).mean(), (values < -0.1).mean()
    print(f"best of the first {options.first} less GEOM's lowest, {len(values)} of {len(differences)} molecules:")
    print(f"quartiles {quartiles} kcal/mol; at most 1 above: {near:.2f}; below by more than 0.1: {below:.2f}")


if __name__ == "__main__":
    main()
