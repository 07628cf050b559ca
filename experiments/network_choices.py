"""One choice of the network at a time: same data, same CPU time, scored on molecules that were held out.

    python experiments/network_choices.py EXCERPT.sdf.gz --data SHARDS -o runs/recipe [--seconds 75] [--variants a,b]

SHARDS are pairs of MMFF94s minima (seeds) and the GFN2-xTB minima they lead to; their val part is held out. Each
network is trained from scratch for so many CPU seconds. Scored are the distance of its samples to those minima (heavy
atoms, Å), their strain (GFN2-xTB energy above the minimum, kcal/mol; needs xtb), and COV/MAT of molecules of EXCERPT
whose seeds are the same for all (torsion search, MMFF94s order, n = 2K). Finished variants in OUT are not repeated.
``--scaling`` trains on the first 60, 125, ... molecules instead, and for a quarter, a half, ... of the time, and fits
power laws.
"""

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from held_out import HeldOut, samples_of

from conformergen.chem import heavy_atoms, to_mol
from conformergen.config import load_config
from conformergen.datasets.loader import TrainingSet
from conformergen.evaluation.metrics import METRICS
from conformergen.generation.settings import GenerateSettings
from conformergen.generation.stream import Pipeline
from conformergen.geometry.rmsd import rmsd_matrix
from conformergen.io.inputs import InputRecord
from conformergen.io.shards import read_folder
from conformergen.nn import Backbone, make_backbone
from conformergen.records import Molecule
from conformergen.refinement import xtb
from conformergen.refinement.engines import XtbProgram
from conformergen.sampling import SamplingSettings
from conformergen.training.trainer import Trainer

#: Pairs of a held-out molecule that are sampled, and molecules whose first sample gets a strain.
PAIRS, STRAINED = 4, 40
#: Steps that are timed to know how many fit into the time.
TIMED = 12


@dataclass(frozen=True, kw_only=True)
class Variant:
    """What differs from the base; ``share`` of its time."""

    settings: tuple[str, ...] = ()
    molecules: int | None = None
    share: float = 1.0


BASE = (
    "network.relaxation.mode=none",
    "diffusion.sigma=0.01",
    "training.learning_rate=3e-3",
    "training.pair_budget=24000",
    "training.warmup=50",
)
VARIANTS = {
    "base": Variant(),
    "tensor products": Variant(settings=("network.backbone=tensor-product", "network.channels=32")),
    "one head": Variant(settings=("network.heads=1",)),
    "2 layers": Variant(settings=("network.layers=2",)),
    "8 layers": Variant(settings=("network.layers=8",)),
    "128 channels": Variant(settings=("network.channels=128",)),
    "prior noise .003 Å": Variant(settings=("diffusion.sigma=0.003",)),
    "prior noise .05 Å": Variant(settings=("diffusion.sigma=0.05",)),
    "prior noise .2 Å": Variant(settings=("diffusion.sigma=0.2",)),
    "EDM path": Variant(settings=("diffusion.path=edm",)),
    "squared loss": Variant(settings=("diffusion.loss=mse",)),
    "rate / 3": Variant(settings=("training.learning_rate=1e-3",)),
    "recm": Variant(settings=("network.relaxation.mode=recm",)),
}
#: Ways to sample from each network; the others than the first only from the base.
SAMPLINGS = {
    "": SamplingSettings(steps=2),
    ", 1 evaluation": SamplingSettings(steps=1),
    ", 5 evaluations": SamplingSettings(steps=5),
    ", 10 evaluations": SamplingSettings(steps=10),
    ", stochastic, 5": SamplingSettings(sampler="stochastic", steps=5),
}
SCALING = {
    **{f"{n} molecules": Variant(molecules=n) for n in (60, 125, 250, 500)},
    **{f"time x {share}": Variant(share=share) for share in (0.125, 0.25, 0.5)},
    "base": Variant(),
}


class Scored:
    """Held-out pairs, and molecules with references and seeds."""

    def __init__(self, options: argparse.Namespace) -> None:
        held_out = [s for f in options.data for s in read_folder(f, split="val") if s.starts is not None]
        self.pairs = [s for s in held_out if len(s) >= 2]

        def seeds(molecule: Molecule, n: int) -> np.ndarray:
            record = InputRecord(index=0, smiles=molecule.smiles, name=molecule.name)
            [block] = Pipeline(GenerateSettings(n=n, method="torsion+mmff94s")).blocks([record])
            return block.conformers[0].positions

        self.known = HeldOut(options.excerpt, options.select, options.cap, options.out / "seeds.pkl", seeds)

    def __call__(self, network: Backbone, trainer: Trainer, sampling: SamplingSettings) -> dict[str, list[float]]:
        """Values of each pair or molecule."""

        def sampled(molecules: list[Molecule], seeds: list[np.ndarray]) -> list[np.ndarray]:
            return samples_of(network, trainer.diffusion, molecules, seeds, sampling)

        values: dict[str, list[float]] = {"distance": [], "strain": []}
        for number, pair in enumerate(self.pairs):
            assert pair.starts is not None
            (samples,) = sampled([pair.molecule], [pair.starts[:PAIRS]])
            heavy = heavy_atoms(to_mol(pair.molecule))
            same = np.arange(len(heavy))[None]
            rmsd, _ = rmsd_matrix(samples[:, heavy], pair.positions[:PAIRS, heavy], same)
            values["distance"] += rmsd.diagonal().tolist()
            if xtb.available() and number < STRAINED:
                engine = XtbProgram(pair.molecule)
                energies = [engine.energy(x.astype(np.float64)) for x in (samples[0], pair.positions[0])]
                if None not in energies:
                    values["strain"].append(energies[0] - energies[1])
        return values | self.known.score(sampled(self.known.molecules, self.known.seeds))


def run(variant: Variant, options: argparse.Namespace, scored: Scored) -> dict[str, dict]:
    """Train for the time, and score each way to sample."""
    sets = [s for f in options.data for s in read_folder(f, split="train") if len(s) and s.starts is not None]
    data = TrainingSet(sets[: variant.molecules], pair_budget=24_000, confs_per_epoch=8)

    def trainer(steps: int) -> Trainer:
        config = load_config("small", None, [*BASE, *variant.settings, f"training.steps={steps}"])
        torch.manual_seed(0)
        network = make_backbone(config.network)
        mode = config.network.relaxation.mode
        return Trainer(network, config.diffusion, config.training, relaxation=mode, device="cpu")

    seconds = options.seconds * variant.share
    trial, batches = trainer(1000), data.stream(0, 0, 0)
    trial.train_step(data, batches)
    began = time.process_time()
    for _ in range(TIMED):
        trial.train_step(data, batches)
    steps = max(20, int(seconds * TIMED / (time.process_time() - began)))
    training, batches = trainer(steps), data.stream(0, 0, 0)
    began = time.process_time()
    for _ in range(steps):
        training.train_step(data, batches)
    used = time.process_time() - began
    network = training.averaged.eval()
    facts = {
        "steps": steps,
        "cpu_seconds": round(used, 1),
        "molecules": len(data.sets),
        "parameters": sum(p.numel() for p in network.parameters()),
    }
    samplings = SAMPLINGS if variant == VARIANTS["base"] and not options.scaling else {"": SAMPLINGS[""]}
    return {suffix: {**facts, **scored(network, training, settings)} for suffix, settings in samplings.items()}


def row(name: str, result: dict) -> str:
    strain = f"{np.median(result['strain']):.2f}" if result["strain"] else "–"
    means = [f"{np.nanmean(result[m]):.3f}" for m in METRICS]
    return (
        f"| {name} | {result['steps']} | {result['parameters']:,} | {np.mean(result['distance']):.4f} | {strain} "
        f"| {' | '.join(means)} |"
    )


def fits(results: dict[str, dict]) -> list[str]:
    """Power laws of strain and distance in the number of molecules and in time."""
    lines = []
    for what, key, names in (
        ("molecules", "molecules", [n for n in results if "molecules" in n or n == "base"]),
        ("CPU seconds", "cpu_seconds", [n for n in results if "time" in n or n == "base"]),
    ):
        x = np.log([results[n][key] for n in names])
        for label, metric in (
            ("strain", [np.median(results[n]["strain"]) for n in names]),
            ("distance", [np.mean(results[n]["distance"]) for n in names]),
            ("MAT-R", [np.nanmean(results[n]["mat_r"]) for n in names]),
        ):
            slope, intercept = np.polyfit(x, np.log(metric), 1)
            lines.append(f"{label} = {np.exp(intercept):.3g} ({what})^{slope:.3f}")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("excerpt", type=Path)
    parser.add_argument("--data", type=Path, action="append", required=True)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--select", default="geomdrugs_[tl]0[0-5]")
    parser.add_argument("--cap", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=75.0, help="CPU seconds of training")
    parser.add_argument("--variants", help="comma-separated; all by default")
    parser.add_argument("--scaling", action="store_true")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    scored = Scored(options)
    known = SCALING if options.scaling else VARIANTS
    results = {}
    for name in options.variants.split(",") if options.variants else known:
        path = options.out / f"{name.replace(' ', '_').replace('/', 'over')}.json"
        if not path.is_file():
            path.write_text(json.dumps(run(known[name], options, scored)) + "\n")
        for suffix, result in json.loads(path.read_text()).items():
            results[name + suffix] = result
            print(row(name + suffix, result), flush=True)
    header = "| variant | steps | parameters | distance Å | strain kcal/mol | COV-R % | MAT-R Å | COV-P % | MAT-P Å |"
    lines = [header, "| --- " * header.count(" | ") + "| --- |", *(row(n, r) for n, r in results.items())]
    lines += ["", *fits(results)] if options.scaling else []
    (options.out / ("scaling.md" if options.scaling else "table.md")).write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
