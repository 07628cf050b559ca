"""Which candidates to return: rankers, windows and the bounds of any order, on the same candidates.

    python benchmarks/selection.py EXCERPT.sdf.gz [--model default] [--rankers default,runs/rk] [--windows 3,4,5]
        [--pool 4] [--seeds 0,1,2] [--uniform 0.05] [--force-constant 0.002] [--half-width 8] [--max-steps 800]

For each molecule of EXCERPT the torsion search makes the candidates of ``--method model`` and the model moves them;
rankers order them, windows cut them, and COV/MAT of what would be returned is computed. ``all`` returns every
candidate, ``nearest`` the n that are nearest to a reference: no order does better in precision at that recall. The
share of pairs of a candidate within 0.5 Å of a reference and one that is not, in which the former is the higher, is
printed as ``wrong pairs``. Means over seeds of the search, with the sum of both MAT of each; repeats are drawn with
five seeds.
"""

import argparse
import fnmatch
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from conformergen.checkpoint.model import Model, load_model
from conformergen.chem import heavy_atoms, molecule_from_smiles, symmetry_group, to_mol
from conformergen.commands.train_ranker import initial_ranker
from conformergen.evaluation.metrics import cov_p, cov_r, mat_p, mat_r
from conformergen.evaluation.scoring import ScoringTask, to_reference_order
from conformergen.generation.rounds import ranked_energies, round_settings, run_rounds
from conformergen.generation.samples import Samples
from conformergen.generation.selection import BY_FORCE_FIELD, BY_RANKER, n_unique, select_by_window
from conformergen.generation.settings import GenerateSettings
from conformergen.generation.starts import CANDIDATES, n_candidates
from conformergen.geometry.branch_bound import group_rmsd_matrix
from conformergen.io.formats.interface import RawEnsemble
from conformergen.io.formats.sdf import read
from conformergen.nn.energy import EnergyNetwork
from conformergen.records import Fallback
from conformergen.runtime.devices import limit_threads
from conformergen.runtime.workers import Mapper, Workers
from conformergen.torsion import TorsionRestraint, TorsionSearchSettings, torsion_minima

THRESHOLD, NEAR = 0.75, 0.5
#: Draws of repeated conformers.
REPEATS = 5


@dataclass(frozen=True, eq=False, kw_only=True)
class Candidates:
    """Of one molecule: RMSD (reference, candidate), of mirror images too where they count, energies, CPU s each."""

    rmsd: np.ndarray
    mirrored: np.ndarray | None
    wanted: int
    energies: dict[str, np.ndarray]
    seconds: float

    def nearest(self) -> np.ndarray:
        """Å to the nearest reference, of a candidate or its mirror image."""
        own = self.rmsd.min(0)
        return own if self.mirrored is None else np.minimum(own, self.mirrored.min(0))

    def scores(self, rows: np.ndarray) -> list[float]:
        """COV-R, MAT-R, COV-P, MAT-P of the selected candidates."""
        rmsd = self.rmsd[:, rows]
        if self.mirrored is not None:
            rmsd = np.concatenate([rmsd, self.mirrored[:, rows]], axis=1)
        cov = [100.0 * f(rmsd, THRESHOLD) for f in (cov_r, cov_p)]
        mat = [f(rmsd, THRESHOLD) for f in (mat_r, mat_p)]
        return [cov[0], mat[0], cov[1], mat[1]]


def candidates(
    raw: RawEnsemble,
    options: argparse.Namespace,
    search: TorsionSearchSettings,
    model: Model,
    rankers: dict[str, EnergyNetwork],
    *,
    seed: int,
    workers: Mapper,
) -> Candidates | None:
    """Candidates of one molecule after the rounds that ``generate`` runs; None without MMFF94s parameters."""
    references = raw.conformers[: options.cap]
    molecule = molecule_from_smiles(raw.smiles, raw.name)
    n = 2 * len(references)
    wanted = n_unique(molecule, n)
    began = time.process_time()
    count = n_candidates(molecule, n, candidates_per_conformer=options.pool)
    minima = torsion_minima(molecule, count, seed=seed, settings=search, model=model.torsion_model)
    seconds = time.process_time() - began
    if not np.isfinite(minima.energies).all():
        return None
    starts = Samples(
        molecule=molecule,
        positions=minima.positions.astype(np.float32),
        mmff_energies=minima.energies,
        fallback=np.full(len(minima), Fallback.REGULAR, dtype=np.uint8),
        n_final=len(minima),
    )
    [samples] = run_rounds(model, [starts], round_settings(ranked=True, seed=seed), workers=workers)
    energies = {"mmff94s": minima.energies}
    energies |= {name: ranked_energies(ranker, samples) for name, ranker in rankers.items()}
    mol = to_mol(molecule)
    heavy, group = heavy_atoms(mol), symmetry_group(mol)
    task = ScoringTask(name=raw.name, smiles=raw.smiles, references=references, samples=[])
    targets = to_reference_order(task).references[:, heavy]
    return Candidates(
        rmsd=group_rmsd_matrix(targets, samples.positions[:, heavy], group),
        mirrored=group_rmsd_matrix(targets, -samples.positions[:, heavy], group) if wanted < n else None,
        wanted=wanted,
        energies=energies,
        seconds=seconds / n,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("excerpt", type=Path)
    parser.add_argument("--select", default="geomdrugs_[tl][01]*")
    parser.add_argument("--cap", type=int, default=40)
    parser.add_argument("--pool", type=int, default=GenerateSettings.candidates_per_conformer)
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--uniform", type=float, default=CANDIDATES.uniform)
    restraint = CANDIDATES.restraint
    parser.add_argument("--force-constant", type=float, default=restraint.force_constant, help="0: minima of MMFF94s")
    parser.add_argument("--half-width", type=float, default=restraint.half_width)
    parser.add_argument("--max-steps", type=int, default=CANDIDATES.max_steps)
    parser.add_argument("--model", default="default", help="checkpoint that moves the candidates")
    parser.add_argument("--rankers", default="default", help="checkpoint, or folders of train-ranker")
    parser.add_argument("--windows", default="2,3,4,5,6")
    options = parser.parse_args()
    limit_threads()
    restraint = TorsionRestraint(force_constant=options.force_constant, half_width=options.half_width)
    search = replace(CANDIDATES, uniform=options.uniform, restraint=restraint, max_steps=options.max_steps)
    model, rankers = load_model(options.model), {}
    for name in options.rankers.split(","):
        ranker = load_model("default").ranker if name == "default" else initial_ranker(name).eval()
        assert ranker is not None
        rankers[name] = ranker
    raws = [raw for raw in read(options.excerpt) if fnmatch.fnmatchcase(raw.name, options.select)]
    with Workers(1) as workers:
        by_seed = [
            [c for raw in raws if (c := candidates(raw, options, search, model, rankers, seed=seed, workers=workers))]
            for seed in map(int, options.seeds.split(","))
        ]
    sets = [c for one in by_seed for c in one]

    def show(name: str, emit: Callable[[Candidates, int], np.ndarray], repeats: int = 1) -> None:
        each = np.array([
            np.mean([c.scores(emit(c, repeat)) for c in one for repeat in range(repeats)], 0) for one in by_seed
        ])  # fmt: skip
        values, sums = each.mean(0), each[:, 1] + each[:, 3]
        seeds = " ".join(f"{x:.3f}" for x in sums)
        print(
            f"| {name} | {values[0]:.1f} | {values[1]:.3f} | {values[2]:.1f} | {values[3]:.3f} | {sums.mean():.3f} |"
            f" {seeds} |",
            flush=True,
        )

    print(f"{len(by_seed[0])} molecules\n")
    print("| returned | COV-R % | MAT-R Å | COV-P % | MAT-P Å | sum of MAT | each seed |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name in ("mmff94s", *rankers):
        for window in map(float, options.windows.split(",")):
            settings = replace(BY_FORCE_FIELD if name == "mmff94s" else BY_RANKER, window=window)
            show(
                f"{name}, {window:g} kcal/mol",
                lambda c, repeat, n=name, s=settings: select_by_window(
                    c.energies[n], c.wanted, s, np.random.default_rng(repeat)
                ),
                REPEATS,
            )
    show("all", lambda c, _: np.arange(c.rmsd.shape[1]))
    show("nearest", lambda c, _: np.resize(np.argsort(c.nearest())[: c.wanted], c.wanted))
    print(f"search: {1000 * np.mean([c.seconds for c in sets]):.1f} CPU ms a conformer")
    for name in ("mmff94s", *rankers):
        wrong = [
            (c.energies[name][near][:, None] > c.energies[name][~near][None]).mean()
            for c in sets
            if (near := c.nearest() < NEAR).any() and not near.all()
        ]
        print(f"wrong pairs, {name}: {np.mean(wrong):.3f}")


if __name__ == "__main__":
    main()
