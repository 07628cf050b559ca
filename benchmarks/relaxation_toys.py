"""Toys with a known symmetry gap: least squares, a deep gated net, parity blocks, finite data.

python benchmarks/relaxation_toys.py -o runs/toys [--seeds 3]

Measures the tables and curves of docs/relaxation.md; the fast forms are run by the tests.
"""

import argparse
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from e3nn import o3
from torch import Tensor, nn

from conformergen.geometry.rotations import haar_rotations
from conformergen.nn.relaxation import (
    RELAXATION_MODES,
    RelaxationSettings,
    RelaxedBranch,
    StepTerms,
    collect_sums,
    make_branch,
)
from conformergen.nn.relaxation.recm import next_state

Entries = list[Tensor]
#: Teacher: inputs to targets without noise, at a step of the run.
Teacher = Callable[[Entries, int], Entries]
NOISE = 0.1


class RelaxedLinear(nn.Module):
    """Equivariant linear map between entries, and its branch."""

    def __init__(self, entries: Sequence[o3.Irreps], settings: RelaxationSettings) -> None:
        super().__init__()
        self.f = nn.ParameterDict()
        for i, out in enumerate(entries):
            for j, entry in enumerate(entries):
                if out[0].ir == entry[0].ir:
                    self.f[f"{i}{j}"] = nn.Parameter(torch.randn(out[0].mul, entry[0].mul) / entry[0].mul ** 0.5)
        self.branch = make_branch(settings, entries)

    def forward(self, inputs: Entries) -> Entries:
        """Entries are (node, 2l+1, channel)."""
        updates = [torch.zeros_like(z) for z in inputs]
        for key, weight in self.f.items():
            i, j = int(key[0]), int(key[1])
            updates[i] = updates[i] + inputs[j] @ weight.T
        if self.branch is None:
            return updates
        return self.branch(inputs, updates, torch.ones(len(inputs[0]), 1, 1))


def gate(v: Tensor) -> Tensor:
    """v sigmoid(2 |v| - 2)."""
    return v * torch.sigmoid(2.0 * (v.square().sum(-2, keepdim=True) + 1e-12).sqrt() - 2.0)


class Deep(nn.Module):
    """Relaxed layers with gates between them, on one entry of vectors."""

    def __init__(self, channels: int, depth: int, settings: RelaxationSettings) -> None:
        super().__init__()
        entries = [o3.Irreps(f"{channels}x1o")]
        self.layers = nn.ModuleList(RelaxedLinear(entries, settings) for _ in range(depth))

    def forward(self, inputs: Entries) -> Entries:
        """One entry in, one out."""
        for index, layer in enumerate(self.layers):
            inputs = layer([gate(inputs[0])] if index else inputs)
        return inputs


@dataclass(kw_only=True)
class Result:
    """Trace of one run: levels (step, block), and the errors at the end."""

    levels: Tensor
    names: list[str]
    mse: float
    mse_closed: float

    def beta(self, last: int = 500) -> list[float]:
        """Mean level of each block over the last steps."""
        return self.levels[-last:].mean(0).tolist()


def _turned(entries: Entries, rotation: Tensor) -> Entries:
    return [rotation @ z if z.shape[-2] == 3 else z for z in entries]


def _error(model: nn.Module, inputs: Entries, targets: Entries) -> Tensor:
    outputs = model(inputs)
    joined = torch.cat([(o - t).flatten() for o, t in zip(outputs, targets, strict=True)])
    return joined.square().mean()


def fit(  # noqa: PLR0913  the knobs of the toys
    model: nn.Module,
    teacher: Teacher,
    shapes: Sequence[tuple[int, int]],
    settings: RelaxationSettings,
    *,
    steps: int = 3000,
    rate: float = 3e-3,
    batch: int = 64,
    noise: float = NOISE,
    seed: int = 0,
    samples: int | None = None,
    rotate: bool = False,
    cosine: bool = False,
    stretch: Tensor | None = None,
) -> Result:
    """Train and trace the levels; ``samples`` fixes a finite data set, ``stretch`` (3, 3) deforms the inputs."""
    rng = torch.Generator().manual_seed(seed + 1)

    def draw(n: int, step: int) -> tuple[Entries, Entries]:
        inputs = [torch.randn(n, *shape, generator=rng) for shape in shapes]
        if stretch is not None:
            inputs = [stretch @ z for z in inputs]
        targets = teacher(inputs, step)
        return inputs, [t + noise * torch.randn(t.shape, generator=rng) for t in targets]

    def turn(pair: tuple[Entries, Entries]) -> tuple[Entries, Entries]:
        rotation = haar_rotations(torch.randn(len(pair[0][0]), 4, generator=rng))
        return _turned(pair[0], rotation), _turned(pair[1], rotation)

    branches = [m for m in model.modules() if isinstance(m, RelaxedBranch)]
    loose = {id(p) for b in branches for p in b.parameters()}
    core = [p for p in model.parameters() if id(p) not in loose]
    mode = RELAXATION_MODES[settings.mode](settings, total_steps=steps)
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps) if cosine else None
    fixed = draw(samples, 0) if samples else None
    levels = []
    for step in range(steps):
        pair = fixed or draw(batch, step)
        pair = turn(pair) if rotate else pair
        optimizer.zero_grad(set_to_none=False)
        loss = _error(model.train(), *pair)
        again = lambda pair=pair: _error(model, *turn(pair))  # noqa: E731
        mode.objective(loss, StepTerms(branches=branches, core=core, rotated=again)).backward()
        mode.advance(branches, collect_sums(branches), step=step)
        optimizer.step()
        if schedule is not None:
            schedule.step()
        levels.append(torch.cat([b.beta.detach().clone() for b in branches]) if branches else torch.zeros(1))
    model.eval()
    fresh = draw(20_000, steps)
    fresh = turn(fresh) if rotate else fresh
    with torch.no_grad():
        mse = float(_error(model, *fresh))
        for branch in branches:
            branch.beta.zero_()
        closed = float(_error(model, *fresh))
    names = [name for b in branches for name in b.names]
    return Result(levels=torch.stack(levels), names=names, mse=mse, mse_closed=closed)


def trace_free(n_out: int, n_in: int, d: int = 3) -> Tensor:
    """Random complement of a block of one l, at unit gain: (d, n_out, d, n_in) flattened to a matrix."""
    m = torch.randn(d * n_out, d * n_in)
    t = torch.einsum("aiaj->ij", m.view(d, n_out, d, n_in)) / d
    m = m - torch.kron(torch.eye(d), t)
    return m * ((d * n_out) ** 0.5 / m.norm())


def hard(mode: str = "recm", **changes: object) -> RelaxationSettings:
    """Settings of the slow rows: a wide-open start, dense branch, no forced closing."""
    base = RelaxationSettings(mode=mode, rank=0, lam=5e-3, h0=1.0, close_at=1.0)
    return replace(base, **changes)  # type: ignore[arg-type]


def fast(mode: str = "recm", **changes: object) -> RelaxationSettings:
    """Settings of the tests."""
    return hard(mode, **{"lam": 1e-2, "h0": 0.2, **changes})


def gap(
    epsilon: float | Callable[[int], float], settings: RelaxationSettings, *, seed: int = 0, **run: object
) -> Result:
    """Least squares with a teacher A x + epsilon M x on six vector channels; M breaks the symmetry at unit gain."""
    torch.manual_seed(seed)
    n = 6
    a, m = torch.randn(n, n) / n**0.5, trace_free(n, n)
    size = epsilon if callable(epsilon) else lambda step: epsilon

    def teacher(inputs: Entries, step: int) -> Entries:
        (x,) = inputs
        return [x @ a.T + size(step) * (x.flatten(1) @ m.T).view_as(x)]

    model = RelaxedLinear([o3.Irreps(f"{n}x1o")], settings)
    return fit(model, teacher, [(3, n)], settings, seed=seed, **run)  # type: ignore[arg-type]


def deep(kind: str, settings: RelaxationSettings, *, seed: int = 0, **run: object) -> Result:
    """Three gated layers; the teacher is broken nowhere, at its ``input`` or at its ``output``."""
    torch.manual_seed(seed)
    n = 6
    weights = [torch.randn(n, n) / n**0.5 for _ in range(3)]
    nudge = torch.randn(3 * n, 3 * n) / 18**0.5
    nudge = nudge - torch.kron(torch.eye(3), torch.einsum("aiaj->ij", nudge.view(3, n, 3, n)) / 3)

    def teacher(inputs: Entries, step: int) -> Entries:
        (x,) = inputs
        if kind == "input":
            x = x + 0.5 * (x.flatten(1) @ nudge.T).view_as(x)
        for index, weight in enumerate(weights):
            x = (gate(x) if index else x) @ weight.T
        if kind == "output":
            x = x + 0.3 * x.roll(1, dims=-2)
            x = x + 0.5 * torch.tensor([0.0, 0.0, 1.0])[:, None]
        return [x]

    model = Deep(n, 3, settings)
    options: dict[str, object] = {"steps": 4000, "batch": 128, "noise": 0.05, "cosine": True, **run}
    return fit(model, teacher, [(3, n)], settings, seed=seed, **options)  # type: ignore[arg-type]


def blocks(
    irreps: Sequence[str], broken: tuple[int, int], settings: RelaxationSettings, *, seed: int = 0, **run: object
) -> Result:
    """Equivariant teacher between entries, broken (.3 at unit gain) in one block (source, target) alone."""
    torch.manual_seed(seed)
    entries = [o3.Irreps(text) for text in irreps]
    sound = RelaxedLinear(entries, RelaxationSettings(mode="none"))
    source, target = broken
    d_in, n_in = entries[source][0].ir.dim, entries[source][0].mul
    d_out, n_out = entries[target][0].ir.dim, entries[target][0].mul
    parity = d_in == d_out and entries[source][0].ir.p != entries[target][0].ir.p
    if parity:
        m = torch.kron(torch.eye(d_in), torch.randn(n_out, n_in))
        m = m * ((d_out * n_out) ** 0.5 / m.norm())
    elif d_in == d_out:
        m = trace_free(n_out, n_in, d_in)
    else:
        m = torch.randn(d_out * n_out, d_in * n_in)
        m = m * ((d_out * n_out) ** 0.5 / m.norm())

    @torch.no_grad()
    def teacher(inputs: Entries, step: int) -> Entries:
        outputs = sound(inputs)
        outputs[target] = outputs[target] + 0.3 * (inputs[source].flatten(1) @ m.T).view(-1, d_out, n_out)
        return outputs

    model = RelaxedLinear(entries, settings)
    shapes = [(entry[0].ir.dim, entry[0].mul) for entry in entries]
    return fit(model, teacher, shapes, settings, seed=seed, **run)  # type: ignore[arg-type]


def exact_gap(b: float, *, steps: int = 20_000, seed: int = 0) -> tuple[float, float]:
    """Z2 acts by -1 on t = b + .3 noise, u = t: W1(P, P') = |b|; mean and spread of h after 2,000 steps."""
    rng = torch.Generator().manual_seed(seed)
    h, values = torch.zeros(()), []
    signals = (b + 0.3 * torch.randn(steps, 32, generator=rng)).mean(1)
    for step, signal in enumerate(signals):
        h = next_state(h, signal, lam=1e-2, kappa=1.0)
        if step >= 2000:
            values.append(float(h))
    mean = sum(values) / len(values)
    return mean, math.sqrt(sum((v - mean) ** 2 for v in values) / len(values))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    seeds = range(options.seeds)
    table: dict[str, object] = {}

    def record(name: str, value: object) -> None:
        table[name] = value
        print(name, value, flush=True)
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "toys.json").write_text(json.dumps(table, indent=1) + "\n")

    def levels(results: Sequence[Result]) -> list[float]:
        """Mean over seeds of each block's final level."""
        return [round(_mean(column), 4) for column in zip(*(r.beta() for r in results), strict=True)]

    def summary(results: Sequence[Result]) -> dict[str, object]:
        return {
            "beta": levels(results),
            "mse": round(_mean([r.mse for r in results]), 4),
            "mse at 0": round(_mean([r.mse_closed for r in results]), 4),
        }

    record("T1", {b: [round(v, 4) for v in exact_gap(b)] for b in (0.0, 0.05, 0.1, 0.2, 0.4)})
    sweep = (0.0, 0.03, 0.1, 0.2, 0.4, 0.8)
    record("T2", {e: summary([gap(e, hard(), seed=s) for s in seeds]) for e in sweep})
    record("T3", {e: summary([gap(e, hard(probe="mlp"), seed=s) for s in seeds]) for e in (0.0, 0.1, 0.4, 0.8)})
    rivals = {mode: hard(mode) for mode in RELAXATION_MODES}
    rivals["ace resilient"] = hard("ace", ace_constraint="resilient")
    rivals["remul gradnorm"] = hard("remul", remul_weighting="gradnorm")
    record(
        "T4",
        {name: {e: summary([gap(e, of, seed=s) for s in seeds]) for e in (0.0, 0.4)} for name, of in rivals.items()},
    )
    record(
        "T5",
        {
            f"B {batch}, lam {lam}": summary([gap(0.0, hard(lam=lam), seed=s, batch=batch) for s in seeds])
            for batch in (8, 128)
            for lam in (0.02, 0.005, 0.002)
        },
    )
    traces = {e: gap(e, hard()).levels[:, 0].tolist() for e in (0.0, 0.1, 0.4)}
    record("T6", {e: [round(v, 4) for v in trace[::100]] for e, trace in traces.items()})
    record("T7", {k: summary([gap(0.2, hard(kappa=k), seed=s) for s in seeds]) for k in (0.25, 1.0, 4.0, 16.0)})
    switched = {
        mode: gap(lambda step: 0.4 * (step >= 3000), hard(mode), steps=6000) for mode in ("recm", "anneal", "ace")
    }
    record("T8", {mode: {"beta": [round(float(r.levels[i, 0]), 4) for i in (2999, 3100, 3300)], "mse": r.mse}
                  for mode, r in switched.items()})  # fmt: skip
    finite = [(mode, rotate) for mode in ("none", "recm") for rotate in (False, True)]
    record(
        "T9",
        {
            f"{mode}, {'rotated' if rotate else 'fixed frames'}": summary(
                [gap(0.0, hard(mode), seed=s, samples=24, rotate=rotate) for s in seeds]
            )
            for mode, rotate in finite
        },
    )
    stretched = torch.diag(torch.tensor([1.6, 1.0, 0.4]))
    record("D1", {mode: summary([deep("none", hard(mode), seed=s) for s in seeds]) for mode in ("none", "recm")})
    record(
        "D2",
        {
            rotate: summary([deep("none", hard(), seed=s, stretch=stretched, rotate=rotate) for s in seeds])
            for rotate in (False, True)
        },
    )
    record(
        "D3",
        {
            f"{kind}, {mode}": summary([deep(kind, hard(mode), seed=s) for s in seeds])
            for kind in ("input", "output")
            for mode in ("none", "recm")
        },
    )
    scalars = ["8x0e", "8x1o"]
    for broken in ((0, 1), (1, 0), (1, 1)):
        results = [blocks(scalars, broken, hard(rank=8, h0=0.2), seed=s) for s in seeds]
        record(f"B1 {broken}", dict(zip(results[0].names, levels(results), strict=True)))
    four = ["4x0e", "4x0o", "4x1o", "4x1e"]
    for group in ("o3", "so3"):
        for broken in ((0, 1), (2, 3)):
            results = [blocks(four, broken, hard(group=group, h0=0.2), seed=s) for s in seeds]
            mse = round(_mean([r.mse for r in results]), 4)
            record(f"B2 {group} {broken}", {**dict(zip(results[0].names, levels(results), strict=True)), "mse": mse})
    plot(traces, table, options.out)


def plot(traces: dict[float, list[float]], table: dict[str, object], out: Path) -> None:
    """Curves of docs/relaxation.md: the state beside its bound, the gap sweep, closing."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(12, 3.4), constrained_layout=True)
    exact: dict[float, list[float]] = table["T1"]  # type: ignore[assignment]
    left.plot([0, 0.4], [0, 0.4], color="0.6", label="bound: W1 = |b|")
    left.errorbar(list(exact), [v[0] for v in exact.values()], yerr=[v[1] for v in exact.values()], fmt="o", ms=4)
    left.set(xlabel="gap |b|", ylabel="h", title="exact gap")
    left.legend(frameon=False)
    sweep: dict[float, dict[str, list[float]]] = table["T2"]  # type: ignore[assignment]
    middle.plot([0, 0.8], [0, 0.8], color="0.6", label="teacher's gap")
    middle.plot(list(sweep), [v["beta"][0] for v in sweep.values()], "o", ms=4)
    middle.set(xlabel="teacher's break (unit gain)", ylabel="beta", title="gap sweep")
    middle.legend(frameon=False)
    for epsilon, trace in traces.items():
        right.semilogy([max(v, 1e-4) for v in trace], lw=1, label=f"gap {epsilon}")
    right.set(xlabel="step", ylabel="beta", title="closing from h0 = 1")
    right.legend(frameon=False)
    figure.savefig(out / "toys.svg")


if __name__ == "__main__":
    main()
