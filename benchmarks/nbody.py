"""Charged N-body, with and without a uniform gravity field: relaxation modes at equal CPU time.

python benchmarks/nbody.py -o runs/nbody [--seconds 60] [--seeds 3] [--modes none recm ...] [--workers 1]

The system of Kipf et al. 2018 (arXiv 1802.04687) as used by Satorras, Hoogeboom, Welling 2021 (arXiv 2102.09844):
5 particles of charge +-1, positions N(0, 1), velocities of norm .5, Coulomb forces clipped at .1/dt, leapfrog with
dt = .001; from step 3,000 (the frame 30 of one in a hundred) predict the positions 1,000 steps later. 3,000
training systems, 1,000 to validate, 1,000 to test. Gravity is a constant acceleration along -z from step 3,000 on
(earlier, the mean velocity would tell its direction, and an equivariant network could read it there). The network is
the package's own layers.
Steps follow from the cost of a step of each mode, measured in turn in one process.
 Runs that are finished in OUT are not repeated.
"""

import argparse
import json
import math
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from conformergen.geometry.rotations import haar_rotations
from conformergen.nn import NetworkSettings, RelaxationSettings
from conformergen.nn.features import radial_basis
from conformergen.nn.headwise import HeadwiseLayer
from conformergen.nn.linear import ChannelLinear
from conformergen.nn.relaxation import RELAXATION_MODES, RelaxedBranch, StepTerms, collect_sums

PARTICLES, STEP, FIRST, AHEAD = 5, 1e-3, 3000, 1000
SYSTEMS = {"train": 3000, "val": 1000, "test": 1000}
TASKS = {"charged": 0.0, "gravity": 0.3}
TRIALS, WARM_UP = 40, 5
BATCH, RATE, N_RADIAL = 100, 1e-3, 12


def simulate(count: int, gravity: float, seed: int) -> dict[str, np.ndarray]:
    """Charges, positions and velocities at the first frame, and positions at the second."""
    rng = np.random.default_rng(seed)
    charges = rng.choice([1.0, -1.0], size=(count, PARTICLES, 1))
    x = rng.standard_normal((count, PARTICLES, 3))
    v = rng.standard_normal((count, PARTICLES, 3))
    v *= 0.5 / np.linalg.norm(v, axis=-1, keepdims=True)
    products = charges * charges.transpose(0, 2, 1)
    field = np.array([0.0, 0.0, -gravity])
    limit = 0.1 / STEP

    def acceleration(x: np.ndarray, step: int) -> np.ndarray:
        difference = x[:, :, None] - x[:, None]
        squared = (difference**2).sum(-1) + np.eye(PARTICLES)
        force = (products / squared**1.5 * (1 - np.eye(PARTICLES)))[..., None] * difference
        return np.clip(force.sum(2), -limit, limit) + (field if step >= FIRST else 0.0)

    first: dict[str, np.ndarray] = {}
    v += 0.5 * STEP * acceleration(x, 0)
    for step in range(1, FIRST + AHEAD + 1):
        x += STEP * v
        v += STEP * acceleration(x, step)
        if step == FIRST:
            first = {"x": x.copy(), "v": v.copy()}
    arrays = {"charges": charges, **first, "y": x}
    return {name: a.astype(np.float32) for name, a in arrays.items()}


def dataset(folder: Path, task: str) -> dict[str, dict[str, Tensor]]:
    """The three parts, simulated once."""
    path = folder / f"{task}.npz"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        parts = {
            f"{part}.{name}": array
            for index, (part, count) in enumerate(SYSTEMS.items())
            for name, array in simulate(count, TASKS[task], 100 + index).items()
        }
        np.savez(path, **parts)
    with np.load(path) as stored:
        return {
            part: {name: torch.from_numpy(stored[f"{part}.{name}"]) for name in ("charges", "x", "v", "y")}
            for part in SYSTEMS
        }


class ParticleNetwork(nn.Module):
    """Head-wise layers on charges, distances and velocities; displacement beside free flight."""

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__()
        c = settings.channels
        self.settings = settings
        self.embed = nn.Linear(2, c)
        self.velocity = ChannelLinear("1o", 2, c)
        self.pairs = nn.Linear(N_RADIAL + 1, settings.layers * 2 * settings.heads)
        self.layers = nn.ModuleList(
            HeadwiseLayer(settings, index=i, vectors_given=True) for i in range(settings.layers)
        )
        self.gate = nn.Sequential(nn.LayerNorm(c), nn.Linear(c, c))
        self.readout = ChannelLinear("1o", c, 1, gain=0.1)

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        """Positions 1,000 steps later, (batch, particle, 3)."""
        charges, x, v = batch["charges"], batch["x"], batch["v"]
        centred = x - x.mean(1, keepdim=True)
        difference = x[:, :, None] - x[:, None]
        distances = (difference.square().sum(-1) + 1e-6).sqrt()
        inverse = distances.reciprocal() * ~torch.eye(x.shape[1], dtype=torch.bool)
        pair = torch.cat([radial_basis(distances, N_RADIAL), (charges * charges.mT)[..., None]], dim=-1)
        shape = (self.settings.layers, 2, self.settings.heads)
        tables = self.pairs(pair).unflatten(-1, shape).permute(3, 4, 0, 5, 1, 2)
        scalars = self.embed(torch.cat([charges, v.norm(dim=-1, keepdim=True)], dim=-1))
        vectors = self.velocity(torch.stack([v, centred], dim=-1))
        p = scalars.new_zeros(*scalars.shape[:2], self.settings.odd_channels)
        a = p[:, :, None].expand(-1, -1, 3, -1)
        given = {
            "positions": centred,
            "mask": scalars.new_ones(*scalars.shape[:2], 1),
            "noise_embedding": scalars.new_zeros(len(x), scalars.shape[-1]),
        }
        for index, layer in enumerate(self.layers):
            pairs = (tables[index, 0], tables[index, 1] * inverse[:, None])
            scalars, vectors, p, a = layer(scalars, vectors, p, a, pairs=pairs, **given)
        moved = self.readout(vectors * self.gate(scalars)[:, :, None])[..., 0]
        return x + AHEAD * STEP * v + moved


def turn(batch: dict[str, Tensor], quaternions: Tensor) -> dict[str, Tensor]:
    """Each system in a frame of its own."""
    rotation = haar_rotations(quaternions).mT
    return {name: t if name == "charges" else t @ rotation for name, t in batch.items()}


def settings_of(mode: str, task: str) -> NetworkSettings:
    """Network of one mode; levels are closed at the end only where the task is symmetric."""
    kind, _, option = mode.partition("-")
    wide = kind == "wide"
    relaxation = RelaxationSettings(mode="none" if wide else kind, rank=8, close_at=0.9 if task == "charged" else 1.0)
    if option == "resilient":
        relaxation = replace(relaxation, ace_constraint="resilient")
    channels = 40 if wide else 32
    return NetworkSettings(
        channels=channels,
        odd_channels=8,
        heads=4 if not wide else 8,
        layers=2,
        n_radial=N_RADIAL,
        relaxation=relaxation,
    )


def error(network: ParticleNetwork, part: dict[str, Tensor]) -> float:
    """Mean squared error of a coordinate, as in the papers."""
    with torch.no_grad():
        return float((network(part) - part["y"]).square().mean())


def costs(out: Path, modes: list[str]) -> dict[str, float]:
    """CPU seconds of a step of each mode: medians over turns, so that a busy machine is busy for all."""
    path = out / "costs.json"
    known: dict[str, float] = json.loads(path.read_text()) if path.is_file() else {}
    if not set(modes) <= set(known):
        data = dataset(out, "charged")["train"]
        steppers = {
            mode: Stepper(ParticleNetwork(settings_of(mode, "charged")), data, steps=1000, seed=0, augment=True)
            for mode in modes
        }
        seconds: dict[str, list[float]] = {mode: [] for mode in modes}
        for _ in range(TRIALS):
            for mode, stepper in steppers.items():
                began = time.process_time()
                stepper()
                seconds[mode].append(time.process_time() - began)
        known = {mode: statistics.median(values[WARM_UP:]) for mode, values in seconds.items()}
        path.write_text(json.dumps(known, indent=1) + "\n")
    return known


def run(out: Path, task: str, mode: str, seed: int, steps: int) -> dict[str, object]:
    """Train and test one network."""
    path = out / f"{task}-{mode}-{seed}.json"
    if path.is_file():
        return json.loads(path.read_text())
    torch.set_num_threads(1)
    data = dataset(out, task)
    # In the field z is known: rotating the data would hide what is to be learnt.
    augment = task == "charged"

    torch.manual_seed(seed)
    network = ParticleNetwork(settings_of(mode, task))
    stepper = Stepper(network, data["train"], steps=steps, seed=seed, augment=augment)
    began = time.process_time()
    for _ in range(steps):
        stepper()
    used = time.process_time() - began
    network.eval()
    result: dict[str, object] = {
        "task": task,
        "mode": mode,
        "seed": seed,
        "steps": steps,
        "cpu_seconds": round(used, 1),
        "ms_per_step": round(1000 * used / steps, 2),
        "parameters": sum(p.numel() for p in network.parameters()),
        "val": error(network, data["val"]),
        "test": error(network, data["test"]),
        "beta": {
            f"{i} {name}": round(beta, 4)
            for i, branch in enumerate(stepper.branches)
            for name, beta in zip(branch.names, stepper.last_open[i].tolist(), strict=True)
        },
    }
    turned = turn(data["test"], torch.randn(SYSTEMS["test"], 4, generator=torch.Generator().manual_seed(1)))
    rotation = haar_rotations(torch.randn(SYSTEMS["test"], 4, generator=torch.Generator().manual_seed(1))).mT
    with torch.no_grad():
        gap = network(turned) - network(data["test"]) @ rotation
    result["equivariance_error"] = float(gap.square().mean().sqrt())
    for branch in stepper.branches:
        branch.beta.data.zero_()
    result["test_closed"] = error(network, data["test"])
    path.write_text(json.dumps(result, indent=1) + "\n")
    return result


class Stepper:
    """One optimiser step at a time: Adam, cosine rate, one random rotation of each system where asked."""

    def __init__(
        self, network: ParticleNetwork, data: dict[str, Tensor], *, steps: int, seed: int, augment: bool
    ) -> None:
        self.network, self.data, self.augment = network.train(), data, augment
        self.branches = [m for m in network.modules() if isinstance(m, RelaxedBranch)]
        loose = {id(p) for b in self.branches for p in b.parameters()}
        self.core = [p for p in network.parameters() if id(p) not in loose]
        relaxation = network.settings.relaxation
        self.mode = RELAXATION_MODES[relaxation.mode](relaxation, total_steps=steps)
        self.optimizer = torch.optim.Adam(network.parameters(), lr=RATE)
        self.steps, self.step = steps, 0
        self.rng = torch.Generator().manual_seed(seed)
        self.last_open = [b.beta.detach().clone() for b in self.branches]

    def __call__(self) -> None:
        rate = 0.5 * RATE * (1 + math.cos(math.pi * self.step / self.steps)) * min(1.0, (self.step + 1) / 50)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        picked = torch.randint(len(self.data["x"]), (BATCH,), generator=self.rng)
        batch = {name: t[picked] for name, t in self.data.items()}
        if self.augment:
            batch = turn(batch, torch.randn(BATCH, 4, generator=self.rng))
        loss = self._loss(batch)

        def rotated() -> Tensor:
            return self._loss(turn(batch, torch.randn(BATCH, 4, generator=self.rng)))

        self.optimizer.zero_grad(set_to_none=False)
        self.mode.objective(loss, StepTerms(branches=self.branches, core=self.core, rotated=rotated)).backward()
        nn.utils.clip_grad_norm_(self.core, 1.0)
        before = [b.beta.detach().clone() for b in self.branches]
        self.mode.advance(self.branches, collect_sums(self.branches), step=self.step)
        self.optimizer.step()
        if any(float(b.beta.detach().abs().max()) > 0 for b in self.branches) or not self.mode.closes:
            self.last_open = [b.beta.detach().clone() for b in self.branches]
        elif any(float(b.abs().max()) > 0 for b in before):
            self.last_open = before
        self.step += 1

    def _loss(self, batch: dict[str, Tensor]) -> Tensor:
        return (self.network(batch) - batch["y"]).square().mean()


def table(results: list[dict[str, object]]) -> str:
    """Markdown rows: mean and spread over seeds, difference to ``none`` paired by seed."""
    lines = [
        "| task | mode | steps | ms/step | test MSE (sd) | less `none`, paired (sd) | at beta = 0 | equivariance error "
        "| max beta |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for task in TASKS:
        base = {r["seed"]: r["test"] for r in results if r["task"] == task and r["mode"] == "none"}
        for mode in dict.fromkeys(r["mode"] for r in results if r["task"] == task):
            rows = [r for r in results if r["task"] == task and r["mode"] == mode]

            def mean(key: str, rows: list[dict[str, object]] = rows) -> float:
                return statistics.mean(float(r[key]) for r in rows)  # type: ignore[arg-type]

            tests = [float(r["test"]) for r in rows]  # type: ignore[arg-type]
            paired = [float(r["test"]) - float(base[r["seed"]]) for r in rows if r["seed"] in base]  # type: ignore[arg-type]
            spread = statistics.stdev(tests) if len(tests) > 1 else math.nan
            apart = statistics.stdev(paired) if len(paired) > 1 else math.nan
            betas = [max((abs(b) for b in r["beta"].values()), default=0.0) for r in rows]  # type: ignore[attr-defined]
            lines.append(
                f"| {task} | {mode} | {mean('steps'):.0f} | {mean('ms_per_step'):.1f} "
                f"| {mean('test'):.5f} ({spread:.5f}) "
                f"| {statistics.mean(paired):+.5f} ({apart:.5f}) | {mean('test_closed'):.5f} "
                f"| {mean('equivariance_error'):.1e} | {statistics.mean(betas):.4f} |"
            )
    return "\n".join(lines)


MODES = ("none", "wide", "fixed", "anneal", "ace", "ace-resilient", "remul", "rpp", "learned", "recm")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=60.0, help="CPU seconds of training for each run")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--modes", nargs="+", default=list(MODES))
    parser.add_argument("--tasks", nargs="+", default=list(TASKS))
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    for task in options.tasks:
        dataset(options.out, task)
    torch.set_num_threads(1)
    cost = costs(options.out, options.modes)
    jobs = [(t, m, s) for s in range(options.seeds) for t in options.tasks for m in options.modes]
    with ProcessPoolExecutor(options.workers) as pool:
        futures = [pool.submit(run, options.out, t, m, s, int(options.seconds / cost[m])) for t, m, s in jobs]
        results = [future.result() for future in futures]
    text = table(results)
    (options.out / "table.md").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
