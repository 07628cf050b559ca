"""Training data of the torsion model from molecules without known minima; the default model is the teacher.

    python recipes/search_torsions.py MOLECULES.smi -o data/training/searched-torsions

For each SMILES, the candidates of ``generate`` are moved by the denoiser, and the ranker gives them energies. Samples
within 8 kcal/mol of the lowest are kept. This costs about 1.3 CPU seconds for each molecule. Parts of 100 molecules are
written when they are done, and skipped when they exist. ``conformergen train-torsions`` reads the folder.
"""

import argparse
import time
from pathlib import Path

import numpy as np

from conformergen.checkpoint.model import Model, load_model
from conformergen.chem.isomers import choose_isomer
from conformergen.commands.train_ranker import sample_ranked
from conformergen.datasets.ranked import RankedSet
from conformergen.errors import MoleculeError
from conformergen.generation.starts import CANDIDATES
from conformergen.records import ConformerSet
from conformergen.runtime.devices import limit_threads
from conformergen.runtime.workers import Mapper, Workers
from conformergen.sampling.energies import predict_energies
from conformergen.torsion import torsion_minima
from conformergen.training.torsion_data import TorsionSet, torsion_set, write_torsion_sets

#: Samples this far above the lowest are left out, kcal/mol.
WINDOW = 8.0
#: Molecules in one file.
PART = 100


def search(smiles: str, n: int, model: Model, workers: Mapper) -> TorsionSet | None:
    """Torsions of the samples of one molecule; None without force-field parameters or torsions.

    Raises:
        MoleculeError: When the molecule has no start structure.
    """
    molecule = choose_isomer(smiles, smiles, seed=0)
    minima = torsion_minima(molecule, n, seed=0, settings=CANDIDATES, model=model.torsion_model)
    if not np.isfinite(minima.energies).all():
        return None
    conformers = ConformerSet(molecule=molecule, positions=minima.positions.astype(np.float32))
    moved = sample_ranked(RankedSet(conformers=conformers, baseline=minima.energies), model, workers=workers)
    assert model.ranker is not None
    energies = predict_energies(model.ranker, molecule, moved.conformers.positions, moved.baseline)
    low = energies < energies.min() + WINDOW
    return torsion_set(molecule, moved.conformers.positions[low], energies[low])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("molecules", type=Path, help="SMILES, one on each line")
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--starts", type=int, default=48, help="candidates of each molecule")
    parser.add_argument("--part", type=int, default=0, help="of --parts processes that run side by side, from 0")
    parser.add_argument("--parts", type=int, default=1)
    options = parser.parse_args()
    limit_threads()
    model, smiles = load_model(), [line.split()[0] for line in options.molecules.read_text().splitlines()]
    options.out.mkdir(parents=True, exist_ok=True)
    with Workers(1) as workers:
        for begin in range(options.part * PART, len(smiles), options.parts * PART):
            path = options.out / f"{begin:06d}.npz"
            if path.exists():
                continue
            found = []
            for text in smiles[begin : begin + PART]:
                try:
                    found.append(search(text, options.starts, model, workers))
                except MoleculeError as error:
                    print(f"{text}: {error.reason}", flush=True)
            write_torsion_sets(path, [f for f in found if f is not None])
            print(f"{path}: {time.process_time():.0f} CPU s", flush=True)


if __name__ == "__main__":
    main()
