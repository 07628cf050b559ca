"""Training data of the ranker and the denoiser: GFN2-xTB energies and minima.

    python recipes/ranking_data.py data/training/molecules.smi -o runs/points [--part 1/30] [--jobs 1]
    python recipes/ranking_data.py runs/points/part-001-of-030.h5 -o runs/optimised --part 1/30
    python recipes/ranking_data.py data/training/molecules.smi -o runs/candidates --candidates --part 1/60
    python recipes/ranking_data.py data/training/candidates -o runs/finished --finish -n 5 --part 1/60
    python recipes/ranking_data.py runs/optimised -o data/training/optimised --pack

The first form makes GFN2-xTB single points of unique MMFF94s minima within 16 kcal/mol. The second one optimises some
of these minima with GFN2-xTB, because a single point of a force-field geometry differs by 1.4 kcal/mol (standard
deviation within a molecule) from the energy of the minimum that it leads to. ``--candidates`` optimises samples of the
default model, drawn by predicted energy, of one isomer for each molecule. ``--finish`` optimises the first minima of a
molecule in a folder to level normal of xtb; looser levels end half-way (``experiments/08-converged-labels.md``).

Each part is one shard; a part that exists is not made again. ``--pack`` joins all shards below a folder into one shard
folder for ``train`` and ``train-ranker``. A tenth of the molecules, by their keys, is for validation. Positions are
rounded to 2^-10 Å.
"""

import argparse
import zlib
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import numpy as np

from conformergen.checkpoint.model import Model, load_model
from conformergen.chem import molecule_from_smiles
from conformergen.chem.isomers import choose_isomer
from conformergen.commands.train_ranker import sample_ranked
from conformergen.datasets.pairing import PairingSettings
from conformergen.datasets.ranked import RankedSet
from conformergen.errors import MoleculeError
from conformergen.generation.starts import CANDIDATES
from conformergen.geometry.graph import bonds_kept
from conformergen.geometry.rmsd import kabsch_rotation
from conformergen.geometry.stereo import stereo_ok
from conformergen.io.inputs import InputRecord, read_inputs
from conformergen.io.manifest import Manifest, write_manifest
from conformergen.io.shards import ShardEntry, read_folder, read_shard, write_shard
from conformergen.records import ConformerSet, Molecule
from conformergen.refinement.engines import XtbProgram
from conformergen.runtime.devices import limit_threads
from conformergen.runtime.workers import Workers, map_molecules
from conformergen.sampling.energies import predict_energies
from conformergen.torsion import TorsionSearchSettings, torsion_minima
from conformergen.training.ranking_data import is_held_out

WINDOW = 16.0
#: xtb's optimisation level, and the temperature (kcal/mol) at which minima are drawn by their single points, candidates
#: by their predicted energies.
LEVEL, SPREAD = "sloppy", 5.0
CANDIDATE_SPREAD = 3.0
#: Molecules in a packed shard.
PACKED = 500


def scored(record: InputRecord, *, n: int) -> ConformerSet:
    """Minima of one molecule with GFN2-xTB energies, kcal/mol above the lowest."""
    molecule = molecule_from_smiles(record.smiles, record.name)
    minima = torsion_minima(molecule, n, seed=0, settings=TorsionSearchSettings(uniform=1.0, window=WINDOW))
    positions = minima.positions
    if not np.isfinite(minima.energies).all():
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


def candidates(record: InputRecord, *, n: int, model: Model, opt_level: str) -> ConformerSet:
    """Some of the candidates of one isomer with the GFN2-xTB minima that the model's samples of them lead to."""
    molecule = choose_isomer(record.smiles, record.name, seed=0)
    minima = torsion_minima(molecule, 3 * n, seed=0, settings=CANDIDATES, model=model.torsion_model)
    positions = minima.positions
    if not np.isfinite(minima.energies).all():
        raise MoleculeError("embed", "MMFF94s has no parameters for this molecule")
    found = ConformerSet(molecule=molecule, positions=positions.astype(np.float32))
    assert model.ranker is not None
    with Workers(1) as workers:
        moved = sample_ranked(RankedSet(conformers=found, baseline=minima.energies), model, workers=workers)
    samples, baseline = moved.conformers.positions, moved.baseline
    rows = drawn(molecule, predict_energies(model.ranker, molecule, samples, baseline) / CANDIDATE_SPREAD)[:n]
    starts = moved.conformers.positions[rows].astype(np.float64)
    return minima_of(molecule, positions[rows], starts, opt_level=opt_level)


def relaxed(known: ConformerSet, *, n: int) -> ConformerSet:
    """Some of a molecule's conformers, low ones rather than high ones, with the GFN2-xTB minima they lead to.

    The former become the seeds, in the frame of the others.
    """
    assert known.energies is not None
    starts = known.positions[drawn(known.molecule, known.energies / SPREAD)[:n]].astype(np.float64)
    return minima_of(known.molecule, starts, starts, opt_level=LEVEL)


def drawn(molecule: Molecule, energies: np.ndarray) -> np.ndarray:
    """Conformers of a molecule in random order, by Boltzmann weight without replacement; energies in units of kT."""
    rng = np.random.default_rng(zlib.crc32(molecule.smiles.encode()))
    return np.argsort(energies - rng.gumbel(size=len(energies)))


def finished(known: ConformerSet, *, n: int) -> ConformerSet:
    """The first ``n`` minima of a molecule, optimised on to level normal, with the seeds they have."""
    assert known.starts is not None
    return minima_of(
        known.molecule, known.starts[:n].astype(np.float64), known.positions[:n].astype(np.float64), opt_level="normal"
    )


def minima_of(molecule: Molecule, seeds_of: np.ndarray, starts: np.ndarray, *, opt_level: str) -> ConformerSet:
    """GFN2-xTB minima from ``starts`` (Å), and the seed of each in its frame."""
    engine = XtbProgram(molecule)
    graph = molecule.graph
    minima, seeds, energies = [], [], []
    for seed, start in zip(seeds_of, starts, strict=True):
        found = engine.optimise(start, opt_level)
        if found is not None and bonds_kept(found[0][None], graph)[0] and stereo_ok(found[0][None], graph)[0]:
            minima.append(found[0] - found[0].mean(0))
            seeds.append((seed - seed.mean(0)) @ kabsch_rotation(minima[-1], seed - seed.mean(0)))
            energies.append(found[1])
    if len(energies) < 2:
        raise MoleculeError("reacted", "fewer than two conformers keep their bonds")
    values = np.array(energies)
    return ConformerSet(
        molecule=molecule,
        positions=np.array(minima, dtype=np.float32),
        starts=np.array(seeds, dtype=np.float32),
        energies=values - values.min(),
        energy_method="gfn2-xtb",
    )


def pack(parts: Path, out: Path) -> None:
    """One shard folder of all shards below a folder."""
    entries = [
        ShardEntry(conformers=rounded(e.conformers), split="val" if is_held_out(e.conformers.molecule) else "train")
        for path in sorted(parts.rglob("*.h5"))
        for e in read_shard(path)
    ]
    out.mkdir(parents=True, exist_ok=True)
    units = []
    for i, first in enumerate(range(0, len(entries), PACKED)):
        block = entries[first : first + PACKED]
        units.append(replace(write_shard(out / f"shard-{i:05d}.h5", block), requested=len(block)))
    configuration: dict[str, object] = {"sources": [parts.name]}
    if all(e.conformers.starts is not None for e in entries):
        configuration["starts"] = asdict(PairingSettings(pairing="minimised"))
    write_manifest(out, Manifest(configuration=configuration, units=tuple(units)))


def rounded(conformers: ConformerSet) -> ConformerSet:
    """Positions and starts to 2^-10 Å: the shards are half as large."""
    starts = None if conformers.starts is None else np.round(conformers.starts * 1024) / 1024
    return replace(conformers, positions=np.round(conformers.positions * 1024) / 1024, starts=starts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("molecules", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--part", default="1/1")
    parser.add_argument("-n", type=int, help="conformers of each molecule: 20, or 8 relaxed ones")
    parser.add_argument("--candidates", action="store_true", help="relax candidates of the shipped model")
    parser.add_argument("--opt-level", default="normal", help="xtb's optimisation level for candidates")
    parser.add_argument("--finish", action="store_true", help="MOLECULES is a folder of shards of pairs")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--pack", action="store_true", help="MOLECULES is a folder of parts")
    options = parser.parse_args()
    if options.pack:
        pack(options.molecules, options.out)
        return
    index, total = (int(x) for x in options.part.split("/"))
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / f"part-{index:03d}-of-{total:03d}.h5"
    if path.exists():
        return
    if options.finish or options.molecules.suffix == ".h5":
        if options.finish:
            work, optimised = list(read_folder(options.molecules))[index - 1 :: total], finished
            content = "starts and the GFN2-xTB minima they lead to (level normal)"
        else:
            work, optimised = [entry.conformers for entry in read_shard(options.molecules)], relaxed
            content = f"MMFF94s minima (starts) and the GFN2-xTB minima they lead to (level {LEVEL})"
        names = [s.molecule.name for s in work]
        results = map_molecules(partial(optimised, n=options.n or 8), work, jobs=options.jobs, timeout=1200)
    else:
        records = [r for r in read_inputs(str(options.molecules)) if r.index % total == index - 1]
        names = [r.name for r in records]
        make, timeout = partial(scored, n=options.n or 20), 600
        content = "MMFF94s minima, GFN2-xTB single points"
        if options.candidates:
            limit_threads()
            make = partial(candidates, n=options.n or 8, model=load_model("default"), opt_level=options.opt_level)
            timeout = 1200
            content = (
                f"candidates of the model (starts) and the GFN2-xTB minima they lead to (level {options.opt_level})"
            )
        results = map_molecules(make, records, jobs=options.jobs, timeout=timeout)
    entries = []
    for name, result in zip(names, results, strict=True):
        if isinstance(result, MoleculeError):
            print(f"{name}: {result.reason}: {result}", flush=True)
        else:
            entries.append(ShardEntry(conformers=result, split="train"))
    write_shard(path, entries, attributes={"content": content})


if __name__ == "__main__":
    main()
