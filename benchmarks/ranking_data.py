"""GFN2-xTB single points of MMFF94s minima: what the ranker is trained on.

    python benchmarks/ranking_data.py data/reference-drugs/molecules.smi -o runs/ranking [--part 1/30] [--jobs 1]

For each molecule, different MMFF94s minima of the torsion search within 16 kcal/mol, and their GFN2-xTB energies,
in one shard a part. A part that is there is not made again.
"""

import argparse
from functools import partial
from pathlib import Path

import numpy as np

from conformergen.chem import TorsionSettings, molecule_from_smiles, torsion_minima
from conformergen.datasets.inputs import InputRecord, read_inputs
from conformergen.datasets.shards import ShardEntry, write_shard
from conformergen.errors import MoleculeError
from conformergen.records import ConformerSet
from conformergen.refinement.engines import XtbProgram
from conformergen.workflows.pool import map_molecules

WINDOW = 16.0


def scored(record: InputRecord, *, n: int) -> ConformerSet:
    """Minima of one molecule with GFN2-xTB energies, kcal/mol above the lowest."""
    molecule = molecule_from_smiles(record.smiles, record.name)
    positions, energies = torsion_minima(molecule, n, seed=0, settings=TorsionSettings(pool=3, window=WINDOW))
    if not np.isfinite(energies).all():
        raise MoleculeError("embed", "MMFF94s has no parameters for this molecule")
    engine = XtbProgram(molecule)
    found = [engine.energy(p) for p in positions]
    kept = [i for i, e in enumerate(found) if e is not None]
    if len(kept) < 2:
        raise MoleculeError("embed", "fewer than two conformers with an energy")
    values = np.array([found[i] for i in kept], dtype=np.float64)
    return ConformerSet(
        molecule=molecule,
        positions=positions[kept].astype(np.float32),
        energies=values - values.min(),
        energy_method="gfn2-xtb",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("molecules", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--part", default="1/1")
    parser.add_argument("-n", type=int, default=20)
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args()
    index, total = (int(x) for x in options.part.split("/"))
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / f"part-{index:03d}-of-{total:03d}.h5"
    if path.exists():
        return
    records = [r for r in read_inputs(options.molecules) if r.index % total == index - 1]
    entries = []
    for record, result in zip(
        records, map_molecules(partial(scored, n=options.n), records, jobs=options.jobs, timeout=600), strict=True
    ):
        if isinstance(result, MoleculeError):
            print(f"{record.name}: {result.reason}: {result}", flush=True)
        else:
            entries.append(ShardEntry(conformers=result, split="train"))
    write_shard(path, entries, attributes={"content": "MMFF94s minima, GFN2-xTB single points"})


if __name__ == "__main__":
    main()
