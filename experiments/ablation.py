"""Relaxation modes and controls on conformers: same data, same CPU budget, several seeds, scored on held-out molecules.

    python experiments/ablation.py EXCERPT.sdf.gz --data SHARDS --data data/reference-mini -o runs/ablation \
        [--seconds 130] [--seeds 3] [--workers 1]

EXCERPT is a multi-conformer SDF with a SMILES property; molecules of ``--select`` are scored, K capped at ``--cap``,
n = 2K, without refinement. Training takes the train part of the shards, validation losses their val and test parts.
Steps follow from the cost of a step of each variant, measured in turn in one process, so that all have the same CPU
time. Runs that are finished in OUT
are not repeated; the table and the plots are made from all of them.
"""

import argparse
import json
import math
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
from held_out import HeldOut, jobs_of, samples_of

from conformergen.checkpoint.model import without_branches
from conformergen.chem import embed
from conformergen.config import load_config
from conformergen.datasets.loader import TrainingSet
from conformergen.evaluation.metrics import METRICS
from conformergen.evaluation.summary import bootstrap_mean
from conformergen.io.shards import read_folder
from conformergen.nn import make_backbone
from conformergen.nn.relaxation import CLOSED_BETA
from conformergen.sampling import SamplingSettings, equivariance_error
from conformergen.training.trainer import Trainer

BUDGET, TRIALS, WARM_UP = 24_000, 30, 5
BASE = [f"training.pair_budget={BUDGET}", "training.warmup=50"]
#: ``wide`` costs about what ``recm`` does in each step; the learning rates are the tuned-optimiser control.
VARIANTS: dict[str, list[str]] = {
    "none": ["network.relaxation.mode=none"],
    "none, wider": ["network.relaxation.mode=none", "network.channels=72"],
    "none, rate x 2": ["network.relaxation.mode=none", "training.learning_rate=2e-3"],
    "none, rate x 4": ["network.relaxation.mode=none", "training.learning_rate=4e-3"],
    "none, steps of recm": ["network.relaxation.mode=none"],
    "none, no rotation": ["network.relaxation.mode=none", "training.rotate=false"],
    "fixed": ["network.relaxation.mode=fixed"],
    "anneal": ["network.relaxation.mode=anneal"],
    "ace": ["network.relaxation.mode=ace"],
    "remul": ["network.relaxation.mode=remul"],
    "rpp": ["network.relaxation.mode=rpp"],
    "learned": ["network.relaxation.mode=learned"],
    "recm": ["network.relaxation.mode=recm"],
    "recm, rate x 4": ["network.relaxation.mode=recm", "training.learning_rate=4e-3"],
    # The change tried after the others: closed at half time, so that the equivariant maps settle for longer, and free
    # of the branch's cost from then on.
    "recm, rate x 4, closed at half": [
        "network.relaxation.mode=recm",
        "network.relaxation.close_at=0.5",
        "training.learning_rate=4e-3",
    ],
    "recm, no rotation": ["network.relaxation.mode=recm", "training.rotate=false"],
}

#: Variants that take as many steps as another one, whatever they cost.
STEPS_OF = {"none, steps of recm": "recm"}


def held_out(options: argparse.Namespace) -> HeldOut:
    """Molecules that are scored, with ETKDGv3 seeds."""
    cache = options.out / "seeds.pkl"
    return HeldOut(options.excerpt, options.select, options.cap, cache, lambda m, n: embed(m, n, seed=0))


def make(variant: str, seed: int, steps: int) -> Trainer:
    overrides = [*BASE, *VARIANTS[variant], f"training.steps={steps}", f"training.seed={seed}"]
    config = load_config("small", None, overrides)
    torch.manual_seed(seed)
    network = make_backbone(config.network)
    return Trainer(network, config.diffusion, config.training, relaxation=config.network.relaxation.mode, device="cpu")


def parts(folders: list[Path], *splits: str, budget: int, conformers: int) -> TrainingSet:
    sets = [s for split in splits for folder in folders for s in read_folder(folder, split=split) if len(s)]
    return TrainingSet(sets, pair_budget=budget, confs_per_epoch=conformers)


def costs(options: argparse.Namespace) -> dict[str, float]:
    """CPU seconds of a step of each variant: medians over turns, so that a busy machine is busy for all."""
    path = options.out / "costs.json"
    if path.is_file():
        return _completed(json.loads(path.read_text()))
    data = parts(options.data, "train", budget=BUDGET, conformers=10)
    trainers = {variant: (make(variant, 0, 10_000), data.stream(0, 0, 0)) for variant in VARIANTS}
    seconds: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
    for _ in range(TRIALS):
        for variant, (trainer, batches) in trainers.items():
            began = time.process_time()
            trainer.train_step(data, batches)
            seconds[variant].append(time.process_time() - began)
    cost = {variant: statistics.median(values[WARM_UP:]) for variant, values in seconds.items()}
    path.write_text(json.dumps(cost, indent=1) + "\n")
    return _completed(cost)


def _completed(cost: dict[str, float]) -> dict[str, float]:
    """A learning rate costs nothing: variants that differ in it alone share a step's cost."""
    shared = {v: cost[v.split(",")[0]] for v in VARIANTS if v not in cost}
    shared["recm, rate x 4, closed at half"] = (cost["recm"] + cost["none"]) / 2
    return {**cost, **shared}


def run(options: argparse.Namespace, variant: str, seed: int, steps: int) -> dict[str, object]:
    """Train and score one network."""
    path = options.out / f"{variant.replace(' ', '_').replace(',', '')}-{seed}.json"
    if path.is_file():
        return json.loads(path.read_text())
    torch.set_num_threads(1)
    data = parts(options.data, "train", budget=BUDGET, conformers=10)
    validation = parts(options.data, "val", "test", budget=100_000, conformers=8)
    trainer = make(variant, seed, steps)
    batches = data.stream(seed, 0, 0)
    betas: list[list[float]] = []
    began = time.process_time()
    for _ in range(steps):
        trainer.train_step(data, batches)
        betas.append([beta for b in trainer.branches for beta in b.beta.detach().tolist()])
    used = time.process_time() - began
    settings = trainer.network.settings
    relaxed = trainer.averaged.eval()
    level = trainer.max_beta()
    plain = without_branches(relaxed, settings) if level <= CLOSED_BETA else relaxed
    scored = held_out(options)
    smallest = sorted(range(len(scored.molecules)), key=lambda i: scored.molecules[i].graph.n_atoms)[:4]
    probes = jobs_of([scored.molecules[i] for i in smallest], [scored.seeds[i][:2] for i in smallest])
    names = [f"{i} {name}" for i, b in enumerate(trainer.branches) for name in b.names]
    last_open = betas[int(0.9 * steps) - 1] if betas[0] else []
    result: dict[str, object] = {
        "variant": variant,
        "seed": seed,
        "steps": steps,
        "cpu_seconds": round(used, 1),
        "seconds_per_step": round(used / steps, 4),
        "parameters_trained": sum(p.numel() for p in trainer.network.parameters()),
        "parameters_scored": sum(p.numel() for p in plain.parameters()),
        "exact": plain is not relaxed or not trainer.branches,
        "val": trainer.validation_loss(validation, relaxed=True),
        "val_closed": trainer.validation_loss(validation, relaxed=False),
        "equivariance_error": equivariance_error(plain, trainer.diffusion, probes, SamplingSettings(), seed=1),
        "beta": dict(zip(names, last_open, strict=True)),
        "trace": betas[:: max(1, steps // 100)],
        **scored.score(samples_of(plain, trainer.diffusion, scored.molecules, scored.seeds, SamplingSettings())),
    }
    path.write_text(json.dumps(result) + "\n")
    return result


def numbers(results: list[dict], variant: str, key: str) -> dict[int, float]:
    """Value of each seed; molecules are averaged."""
    rows = [r for r in results if r["variant"] == variant]
    return {r["seed"]: float(np.nanmean(r[key])) for r in rows}


def interval(results: list[dict], variant: str, key: str) -> str:
    """Difference to ``none``: seeds averaged in each molecule, bootstrap over molecules."""
    mean = {
        v: np.mean([r[key] for r in results if r["variant"] == v and r["seed"] in numbers(results, variant, key)], 0)
        for v in (variant, "none")
    }
    difference = mean[variant] - mean["none"]
    low, high = bootstrap_mean(difference[~np.isnan(difference)])
    return f"{np.nanmean(difference):+.3f} [{low:+.3f}, {high:+.3f}]"


def tables(results: list[dict], seeds: dict[str, list[float]], cost: dict[str, float]) -> str:
    """Two Markdown tables: training, and scores."""
    base = numbers(results, "none", "val_closed")
    lines = [
        "| variant | seeds | steps | step over `none` | parameters trained / scored | validation loss at beta = 0 (sd) "
        "| as trained | less `none`, paired (sd) | equivariance error of the sampler, Å | max beta before closing |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    scores = [
        "| variant | COV-R % | MAT-R Å (sd over seeds) | less `none` [95 %] | COV-P % | MAT-P Å (sd) "
        "| less `none` [95 %] |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        f"| seeds themselves | {np.mean(seeds['cov_r']):.1f} | {np.mean(seeds['mat_r']):.3f} | | "
        f"{np.mean(seeds['cov_p']):.1f} | {np.mean(seeds['mat_p']):.3f} | |",
    ]
    known = [v for v in VARIANTS if any(r["variant"] == v for r in results)]
    for variant in known:
        rows = [r for r in results if r["variant"] == variant]
        closed = numbers(results, variant, "val_closed")
        paired = [closed[s] - base[s] for s in closed if s in base]

        def spread(values: list[float]) -> str:
            return f"{statistics.stdev(values):.4f}" if len(values) > 1 else "–"

        step = cost[variant] / cost["none"]
        errors = numbers(results, variant, "equivariance_error").values()
        betas = statistics.mean(max((abs(b) for b in r["beta"].values()), default=0.0) for r in rows)
        lines.append(
            f"| {variant} | {len(rows)} | {statistics.mean(r['steps'] for r in rows):.0f} | {step:.2f} "
            f"| {rows[0]['parameters_trained']:,} / {rows[0]['parameters_scored']:,} "
            f"| {statistics.mean(closed.values()):.4f} ({spread(list(closed.values()))}) "
            f"| {statistics.mean(numbers(results, variant, 'val').values()):.4f} "
            f"| {statistics.mean(paired):+.4f} ({spread(paired)}) | {statistics.mean(errors):.1e} | {betas:.4f} |"
        )
        mean = {key: numbers(results, variant, key) for key in METRICS}
        scores.append(
            f"| {variant} | {statistics.mean(mean['cov_r'].values()):.1f} "
            f"| {statistics.mean(mean['mat_r'].values()):.4f} ({spread(list(mean['mat_r'].values()))}) "
            f"| {interval(results, variant, 'mat_r')} | {statistics.mean(mean['cov_p'].values()):.1f} "
            f"| {statistics.mean(mean['mat_p'].values()):.4f} ({spread(list(mean['mat_p'].values()))}) "
            f"| {interval(results, variant, 'mat_p')} |"
        )
    return "\n".join([*lines, "", *scores])


def plot(results: list[dict], path: Path) -> None:
    """Levels against training, a panel for each variant that has branches; seed 0."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    shown = [r for r in results if r["seed"] == 0 and r["beta"]]
    columns = 4
    figure, axes = plt.subplots(
        math.ceil(len(shown) / columns), columns, figsize=(12, 2.6 * math.ceil(len(shown) / columns)), squeeze=False,
        constrained_layout=True,
    )  # fmt: skip
    for axis, result in zip(axes.flat, shown, strict=False):
        trace = np.array(result["trace"])
        axis.plot(np.linspace(0, 1, len(trace)), trace, lw=0.9)
        axis.set(title=result["variant"], xlabel="share of training", ylabel="beta")
    for axis in list(axes.flat)[len(shown) :]:
        axis.axis("off")
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("excerpt", type=Path)
    parser.add_argument("--data", type=Path, action="append", required=True)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--select", default="geomdrugs_rot*")
    parser.add_argument("--cap", type=int, default=30)
    parser.add_argument("--seconds", type=float, default=130.0, help="CPU seconds of training for each run")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS))
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    scored = held_out(options)
    own = options.out / "seeds.json"
    if not own.is_file():
        own.write_text(json.dumps(scored.score(scored.seeds)))
    torch.set_num_threads(1)
    cost = costs(options)
    jobs = [(v, s) for s in range(options.seeds) for v in options.variants]
    with ProcessPoolExecutor(options.workers) as pool:
        for future in [
            pool.submit(run, options, v, s, int(options.seconds / cost[STEPS_OF.get(v, v)])) for v, s in jobs
        ]:
            future.result()
    results = [json.loads(p.read_text()) for p in sorted(options.out.glob("*-[0-9]*.json"))]
    text = tables(results, json.loads(own.read_text()), cost)
    (options.out / "table.md").write_text(text + "\n")
    plot(results, options.out / "traces.svg")
    print(text)


if __name__ == "__main__":
    main()
