"""Which candidates to emit: rankers, windows and the bounds of any order, on the same candidates.

    python benchmarks/selection.py EXCERPT.sdf.gz [--model default] [--rankers default,runs/rk] [--windows 3,4,5]
        [--pool 4] [--seeds 0,1,2] [--uniform 0.05] [--hold 0.002] [--slack 8] [--max-steps 400]

For each molecule of EXCERPT the torsion search makes the candidates of ``--method model`` and the model moves them;
rankers order them, windows cut them, and COV/MAT of what would be select_by_window is computed. ``all`` emits every candidate,
``nearest`` the n that are nearest to a reference: no order does better in precision at that recall. The share of pairs
of a candidate within 0.5 Å of a reference and one that is not, in which the former is the higher, is printed as
``wrong pairs``. Means over seeds of the search, with the sum of both MAT of each; repeats are drawn with five seeds.
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
from conformergen.generation.selection import n_unique, select_by_window
from conformergen.torsion import TorsionRestraint, TorsionSearchSettings, torsion_minima
from conformergen.datasets.ranked import RankedSet
from conformergen.io.formats.sdf import read
from conformergen.evaluation.metrics import cov_p, cov_r, mat_p, mat_r
from conformergen.evaluation.scoring import ScoringTask, to_reference_order
from conformergen.geometry.branch_bound import group_rmsd_matrix
from conformergen.nn.energy import EnergyNetwork
from conformergen.records import ConformerSet
from conformergen.sampling.energies import predict_energies
from conformergen.runtime.devices import limit_threads
from conformergen.generation.sampler import RANKED_DIFFERENT, RANKED_TEMPERATURE
from conformergen.generation.starts import CANDIDATES, n_candidates
from conformergen.generation.settings import GenerateSettings
from conformergen.commands.train_ranker import initial_ranker, sample_ranked

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
        """COV-R, MAT-R, COV-P, MAT-P of select_by_window candidates."""
        rmsd = self.rmsd[:, rows]
        if self.mirrored is not None:
            rmsd = np.concatenate([rmsd, self.mirrored[:, rows]], axis=1)
        cov = [100.0 * f(rmsd, THRESHOLD) for f in (cov_r, cov_p)]
        mat = [f(rmsd, THRESHOLD) for f in (mat_r, mat_p)]
        return [cov[0], mat[0], cov[1], mat[1]]


def candidates(
    raw, cap: int, pool: int, search: TorsionSearchSettings, model: Model, rankers: dict[str, EnergyNetwork], *, seed: int = 0
) -> Candidates | None:
    """Candidates of one molecule; None without MMFF94s parameters."""
    references = raw.conformers[:cap]
    molecule = molecule_from_smiles(raw.smiles, raw.name)
    n = 2 * len(references)
    wanted = n_unique(molecule, n)
    began = time.process_time()
    found, baseline = torsion_minima(molecule, n_candidates(molecule, n, pool=pool), seed=seed, settings=search)
    seconds = time.process_time() - began
    if not np.isfinite(baseline).all():
        return None
    conformers = ConformerSet(molecule=molecule, positions=found.astype(np.float32))
    moved = sample_ranked(RankedSet(conformers=conformers, baseline=baseline), model)
    energies = {"mmff94s": baseline} | {name: predict_energies(ranker, moved) for name, ranker in rankers.items()}
    samples = moved.conformers.positions
    mol = to_mol(molecule)
    heavy, group = heavy_atoms(mol), symmetry_group(mol)
    task = ScoringTask(name=raw.name, smiles=raw.smiles, references=references, samples=[])
    targets = to_reference_order(task).references[:, heavy]
    return Candidates(
        rmsd=group_rmsd_matrix(targets, samples[:, heavy], group),
        mirrored=group_rmsd_matrix(targets, -samples[:, heavy], group) if wanted < n else None,
        wanted=wanted,
        energies=energies,
        seconds=seconds / n,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("excerpt", type=Path)
    parser.add_argument("--select", default="geomdrugs_[tl][01]*")
    parser.add_argument("--cap", type=int, default=40)
    parser.add_argument("--pool", type=int, default=GenerateSettings.pool)
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--uniform", type=float, default=CANDIDATES.uniform)
    parser.add_argument("--hold", type=float, default=CANDIDATES.hold.constant, help="0: minima of MMFF94s")
    parser.add_argument("--slack", type=float, default=CANDIDATES.hold.slack)
    parser.add_argument("--max-steps", type=int, default=CANDIDATES.max_steps)
    parser.add_argument("--model", default="default", help="checkpoint that moves the candidates")
    parser.add_argument("--rankers", default="default", help="checkpoint, or folders of train-ranker")
    parser.add_argument("--windows", default="2,3,4,5,6")
    options = parser.parse_args()
    limit_threads()
    hold = TorsionRestraint(constant=options.hold, slack=options.slack)
    search = replace(CANDIDATES, uniform=options.uniform, hold=hold, max_steps=options.max_steps)
    model, rankers = load_model(options.model), {}
    for name in options.rankers.split(","):
        ranker = load_model("default").ranker if name == "default" else initial_ranker(name).eval()
        assert ranker is not None
        rankers[name] = ranker
    raws = [raw for raw in read(options.excerpt) if fnmatch.fnmatchcase(raw.name, options.select)]
    by_seed = [
        [c for raw in raws if (c := candidates(raw, options.cap, options.pool, search, model, rankers, seed=seed))]
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
    print("| select_by_window | COV-R % | MAT-R Å | COV-P % | MAT-P Å | sum of MAT | each seed |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name in ("mmff94s", *rankers):
        for window in map(float, options.windows.split(",")):
            settings = TorsionSearchSettings(window=window)
            if name != "mmff94s":
                settings = replace(settings, temperature=RANKED_TEMPERATURE, different=RANKED_DIFFERENT)
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
