"""GFN2-xTB energies and gradients where the model's samples lie: what a potential is trained on.

    python experiments/force_data.py -o runs/forces --part 1/60

Molecules are those of ``single-points``, ``candidates``, ``optimised`` and ``minima`` in ``data/training``, in a
random order. Of each: samples of the shipped model and three steps of L-BFGS from each, single MMFF94s minima, and
known GFN2-xTB minima with noise, each with energy (kcal/mol) and gradient (kcal/mol/Å) by tblite, accuracy 1. One
``.npz`` a part, arrays of all geometries in sequence; a part that is there is not made again.
"""

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from conformergen.checkpoint.model import Model, load_model
from conformergen.commands.train_ranker import sample_ranked
from conformergen.datasets.ranked import RankedSet
from conformergen.generation.rounds import RoundSettings
from conformergen.io.shards import read_folder
from conformergen.records import ConformerSet, Molecule
from conformergen.refinement.engines import TbliteLibrary
from conformergen.runtime.devices import limit_threads
from conformergen.runtime.workers import Workers
from conformergen.units import EV_TO_KCAL

DATA = Path(__file__).parent.parent / "data"
#: Starts of each molecule, steps from each, MMFF94s minima as they are, known minima; noise on the latter, Å.
STARTS, STEPS, FORCE_FIELD, KNOWN, NOISE = 6, 3, 4, 4, 0.03
#: Temperature, kcal/mol, at which starts are drawn by their energies.
SPREAD = 4.0


def collect() -> list[list[ConformerSet]]:
    """Sets of each isomer, those with seeds last, in a random order of isomers."""
    found: dict[str, list[ConformerSet]] = {}
    folders = [DATA / "training" / x for x in ("single-points", "optimised", "candidates", "minima")]
    for folder in folders:
        for s in read_folder(folder):
            found.setdefault(s.molecule.smiles, []).append(s)
    order = np.random.default_rng(0).permutation(len(found))
    sets = list(found.values())
    return [sets[i] for i in order]


@dataclass(frozen=True, eq=False)
class Choice:
    """What is labelled of one isomer: seeds that the model moves, MMFF94s minima, known minima.

    ``known`` and its seeds are empty where nothing is known; noise is added to samples instead.
    """

    followed: np.ndarray
    plain: np.ndarray
    known: np.ndarray
    known_seeds: np.ndarray

    def seeds(self) -> np.ndarray:
        """The MMFF94s minimum that each labelled geometry comes from, in their order."""
        known = self.known_seeds if len(self.known) else self.followed[:KNOWN]
        return np.concatenate([np.repeat(self.followed, STEPS + 1, axis=0), self.plain, known])


def choose(sets: list[ConformerSet], rng: np.random.Generator) -> Choice:
    """Draw seeds by their energies, and others at random."""
    first, last = sets[0], sets[-1]
    starts = last.positions if last.starts is None else last.starts
    assert last.energies is not None
    order = np.argsort(last.energies / SPREAD - rng.gumbel(size=len(last)))
    plain = first.positions if first.starts is None else first.starts
    rows = rng.permutation(len(plain))[:FORCE_FIELD]
    known = rng.permutation(len(last))[:KNOWN] if last.starts is not None else np.arange(0)
    return Choice(
        followed=starts[order[:STARTS]],
        plain=plain[rows],
        known=last.positions[known],
        known_seeds=starts[known],
    )


def geometries(
    molecule: Molecule, choice: Choice, model: Model, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Samples to be followed, and geometries to be taken as they are."""
    seeds = ConformerSet(molecule=molecule, positions=choice.followed)
    # One round: the seeds that go with the labels are these, not what these are minimised to.
    with Workers(1) as workers:
        ranked = RankedSet(conformers=seeds, baseline=np.zeros(len(seeds)))
        followed = sample_ranked(ranked, model, workers=workers, settings=RoundSettings(rounds=1)).conformers.positions
    if len(choice.known):
        noise = NOISE * rng.random((len(choice.known), 1, 1))
        near = choice.known + noise * rng.standard_normal(choice.known.shape)
    else:
        near = followed[:KNOWN] + NOISE * rng.standard_normal(followed[:KNOWN].shape)
    return followed.astype(np.float64), np.concatenate([choice.plain, near]).astype(np.float64)


def labelled(
    engine: TbliteLibrary, followed: np.ndarray, fixed: np.ndarray
) -> list[tuple[np.ndarray, float, np.ndarray]]:
    """Positions, energies and gradients; a geometry that fails ends its path."""
    from ase.optimize import LBFGS

    rows = []
    for steps, starts in ((STEPS, followed), (0, fixed)):
        for start in starts:
            atoms = engine._atoms(start)
            try:
                for _ in LBFGS(atoms, logfile=None).irun(fmax=0.01, steps=steps):
                    energy, forces = atoms.get_potential_energy(), atoms.get_forces()
                    rows.append((atoms.get_positions(), energy * EV_TO_KCAL, -forces * EV_TO_KCAL))
            except RuntimeError:
                continue
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--part", default="1/1")
    options = parser.parse_args()
    limit_threads()
    index, total = (int(x) for x in options.part.split("/"))
    path = options.out / f"part-{index:03d}-of-{total:03d}.npz"
    options.out.mkdir(parents=True, exist_ok=True)
    if path.exists():
        return
    model = load_model("default")
    smiles, rows, begun = [], [], time.process_time()
    for number, sets in enumerate(collect()):
        if number % total != index - 1:
            continue
        rng = np.random.default_rng((1, number))
        molecule, choice = sets[-1].molecule, choose(sets, rng)
        found = labelled(TbliteLibrary(molecule), *geometries(molecule, choice, model, rng))
        if len(found) > 1:
            smiles += [molecule.smiles] * len(found)
            rows += found
    with path.with_suffix(".tmp").open("wb") as file:
        np.savez_compressed(
            file,
            smiles=np.array(smiles),
            atoms=np.array([len(p) for p, *_ in rows]),
            positions=np.concatenate([p for p, *_ in rows]).astype(np.float32),
            energies=np.array([e for _, e, _ in rows]),
            gradients=np.concatenate([g for *_, g in rows]).astype(np.float32),
        )
    path.with_suffix(".tmp").rename(path)
    print(path.name, len(rows), f"{time.process_time() - begun:.0f} CPU s", flush=True)


if __name__ == "__main__":
    main()
