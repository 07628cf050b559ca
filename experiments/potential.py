"""A GFN2-xTB potential and a ranker: the energy network fitted to energies and gradients, on a GPU.

    python experiments/potential.py pack runs/forces -o runs/potential/data.npz
    python experiments/potential.py train runs/potential/data.npz -o runs/potential/b --decay 0.3 --minutes 9

``pack`` puts parts of force_data.py, the single points and the GFN2-xTB minima of ``data/`` into one file; isomers that
are held out (a tenth, by their keys, as for ``train-ranker``) are marked. ``train`` needs neither RDKit nor xTB. A
batch holds some geometries each of isomers of about one size; errors of energies are of centred ones. The schedule goes
by time. It takes about 45 GB of a GPU. OUT/potential and OUT/ranker are folders as of ``train-ranker``:
``benchmarks/selection.py --rankers`` scores what they pick.
"""

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from conformergen.checkpoint.folder import SCHEMA, SETTINGS, write_checkpoint
from conformergen.checkpoint.model import load_ranker, ranker_files
from conformergen.nn import NetworkSettings
from conformergen.nn.energy import EnergyNetwork
from conformergen.records.batch import GraphBatch

if TYPE_CHECKING:
    from conformergen.records import Molecule

DATA = Path(__file__).parent.parent / "data"
#: Steps of positions, Å, and of gradients, kcal/mol/Å, in the packed file.
STEP, GRADIENT_STEP = 2.0**-10, 0.02
#: Kinds of groups: energies alone; with gradients; samples of the shipped model with the energies of the minima they
#: lead to. All with the MMFF94s energies of the seeds they come from, kcal/mol, up to a ceiling.
PLAIN, FORCED, RANKED = 0, 1, 2
CEILING = 15.0
#: Padded sizes.
BUCKETS = (16, 24, 32, 40, 48, 56, 64, 80, 96)


# --- packing ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, kw_only=True)
class Group:
    """Geometries of one isomer with comparable energies, and those of the seeds they come from."""

    molecule: "Molecule"
    kind: int
    positions: np.ndarray
    energies: np.ndarray
    baseline: np.ndarray
    gradients: np.ndarray | None = None


def forced(forces: Path) -> Iterator[Group]:
    """Groups of force_data.py."""
    from force_data import choose, collect

    from conformergen.chem import mmff_energies, mol_with_conformers

    numbered = {sets[-1].molecule.smiles: (number, sets) for number, sets in enumerate(collect())}
    for part in sorted(forces.glob("*.npz")):
        with np.load(part) as file:
            smiles, atoms = file["smiles"], file["atoms"]
            positions, gradients, energies = file["positions"], file["gradients"], file["energies"]
        ends = np.cumsum(atoms)
        for one in dict.fromkeys(smiles.tolist()):
            rows = np.flatnonzero(smiles == one)
            span = slice(ends[rows[0]] - atoms[rows[0]], ends[rows[-1]])
            shape = (len(rows), atoms[rows[0]], 3)
            number, sets = numbered[one]
            seeds = choose(sets, np.random.default_rng((1, number))).seeds()
            # A path that ended early leaves it open which geometry is of which seed.
            if len(seeds) == len(rows):
                yield Group(
                    molecule=sets[-1].molecule,
                    kind=FORCED,
                    positions=positions[span].reshape(shape),
                    energies=energies[rows],
                    baseline=mmff_energies(mol_with_conformers(sets[-1].molecule, seeds)),
                    gradients=gradients[span].reshape(shape),
                )


def known() -> Iterator[Group]:
    """Single points, minima, and what the shipped model makes of the seeds of the latter."""
    from conformergen.checkpoint.model import load_model
    from conformergen.commands.train_ranker import sample_ranked
    from conformergen.io.shards import read_folder
    from conformergen.training.ranking_data import with_baseline

    folders = [DATA / "training" / x for x in ("minima", "ensembles", "candidates", "optimised")]
    model, done = load_model("default"), set()
    for folder in [DATA / "single-points", *folders]:
        for s in read_folder(folder):
            if s.energies is None or len(s) < 2 or not np.isfinite((seeds := with_baseline(s)).baseline).all():
                continue
            about = {"molecule": s.molecule, "energies": s.energies, "baseline": seeds.baseline}
            yield Group(kind=PLAIN, positions=s.positions, **about)
            # Labels of the last two folders are looser.
            again = s.molecule.smiles in done and folder.name in ("candidates", "relaxed")
            if s.starts is not None and not again:
                done.add(s.molecule.smiles)
                moved = sample_ranked(seeds, model)
                yield Group(kind=RANKED, positions=moved.conformers.positions, **about | {"baseline": moved.baseline})


def pack(forces: Path, out: Path) -> None:
    """One file of graphs and groups."""
    from conformergen.training.ranking_data import is_held_out

    groups = [*forced(forces), *known()]
    molecules = list({g.molecule.smiles: g.molecule for g in groups}.values())
    numbers = {molecule.smiles: i for i, molecule in enumerate(molecules)}
    columns: dict[str, list[np.ndarray]] = {}

    def add(name: str, value: np.ndarray | list[int]) -> None:
        columns.setdefault(name, []).append(np.asarray(value))

    def add_steps(name: str, value: np.ndarray, step: float) -> None:
        add(name, np.round(value / step).clip(-32767, 32767).astype(np.int16).reshape(-1))

    for molecule in molecules:
        g = molecule.graph
        sizes = [len(g.atomic_numbers), len(g.bonds), len(g.centres), len(g.double_bonds)]
        add("sizes", [*sizes, is_held_out(molecule)])
        for f in fields(g):
            add(f.name, getattr(g, f.name).reshape(-1))
    for group in groups:
        add("group", [numbers[group.molecule.smiles], len(group.positions), group.kind])
        add_steps("positions", group.positions - group.positions.mean(1, keepdims=True), STEP)
        add("energies", (group.energies - group.energies.min()).astype(np.float32))
        add("baselines", (group.baseline - group.baseline.min()).astype(np.float32).clip(max=CEILING))
        if group.gradients is not None:
            add_steps("gradients", group.gradients, GRADIENT_STEP)
    stacked = ("sizes", "group")
    arrays = {k: (np.stack(v) if k in stacked else np.concatenate(v)) for k, v in columns.items()}
    out.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(out, **arrays)
    counts = {kind: sum(len(g.positions) for g in groups if g.kind == kind) for kind in (PLAIN, FORCED, RANKED)}
    print(f"{len(molecules)} isomers; geometries with energies, with gradients, samples: {counts}")


# --- training ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Bucket:
    """Graphs of one padded size on the device; geometries; owner, first row, count and kind of each group."""

    graph: GraphBatch
    owner: Tensor
    first: Tensor
    count: Tensor
    kind: Tensor
    positions: Tensor
    energies: Tensor
    baselines: Tensor
    gradients: Tensor

    def graphs(self, own: Tensor) -> GraphBatch:
        """Batch of some of the graphs."""
        values = {f.name: getattr(self.graph, f.name)[own] for f in fields(GraphBatch)}
        return GraphBatch(**{k: v.long() if v.dtype == torch.uint8 else v for k, v in values.items()})

    def losses(self, network: EnergyNetwork, groups: Tensor, draw: Tensor, kind: int) -> tuple[Tensor, Tensor]:
        """Centred errors of energies (group, each), and of gradients (batch, atom, 3) where of that kind, else zero."""
        each = draw.shape[1]
        offset = ((torch.arange(each, device=draw.device) + draw) * (self.count[groups, None] / each)).long()
        row = (self.first[groups, None] + torch.minimum(offset, self.count[groups, None] - 1)).flatten()
        graph = self.graphs(self.owner[groups].repeat_interleave(each))
        x = (self.positions[row].float() * STEP).requires_grad_(kind == FORCED)
        energy = network(graph, x, self.baselines[row])
        error = (energy - self.energies[row]).view(-1, each)
        error = error - error.mean(1, keepdim=True)
        if kind != FORCED:
            return error, torch.zeros_like(error)
        (slope,) = torch.autograd.grad(energy.sum(), x, create_graph=True)
        return error, (slope - self.gradients[row].float() * GRADIENT_STEP) * graph.mask[..., None]


def load(path: Path, device: torch.device) -> tuple[dict[int, Bucket], dict[int, Bucket]]:
    """Buckets to train on, and of held-out isomers."""
    from conformergen.datasets.collate import GraphTables, collate_graphs
    from conformergen.records import ATOM_FEATURES, MolGraph

    with np.load(path) as file:
        a = {k: file[k] for k in file.files}
    widths = {
        "atomic_numbers": (0, 1),
        "atom_features": (0, len(ATOM_FEATURES)),
        "bonds": (1, 2),
        "bond_types": (1, 1),
        "centres": (2, 5),
        "handedness": (2, 1),
        "double_bonds": (3, 4),
        "cis": (3, 1),
    }
    place = dict.fromkeys(widths, 0)
    tables = []
    for sizes in a["sizes"]:
        parts = {}
        for name, (column, width) in widths.items():
            n = int(sizes[column]) * width
            value = a[name][place[name] : place[name] + n]
            place[name] += n
            parts[name] = value.reshape(-1, width) if width > 1 else value
        tables.append(GraphTables(MolGraph(**parts)))
    atoms = a["sizes"][:, 0]
    found: list[dict[int, Bucket]] = []
    geometry_first = np.concatenate([[0], np.cumsum(a["group"][:, 1])])
    coordinate_first = np.concatenate([[0], np.cumsum(a["group"][:, 1] * atoms[a["group"][:, 0]] * 3)])
    gradient_first = np.concatenate(
        [[0], np.cumsum((a["group"][:, 2] == FORCED) * a["group"][:, 1] * atoms[a["group"][:, 0]] * 3)]
    )
    for held in (0, 1):
        buckets = {}
        for low, size in zip((0, *BUCKETS[:-1]), BUCKETS, strict=True):
            mine = [i for i in range(len(tables)) if low < atoms[i] <= size and a["sizes"][i, 4] == held]
            local = {i: k for k, i in enumerate(mine)}
            rows = [g for g in range(len(a["group"])) if a["group"][g, 0] in local]
            if not rows:
                continue
            total = int(a["group"][rows, 1].sum())
            positions = np.zeros((total, size, 3), dtype=np.int16)
            gradients = np.zeros((total, size, 3), dtype=np.int16)
            energies, baselines, first, done = [], [], [], 0
            for g in rows:
                owner, count, kind = a["group"][g]
                n = atoms[owner]
                span = slice(coordinate_first[g], coordinate_first[g + 1])
                positions[done : done + count, :n] = a["positions"][span].reshape(count, n, 3)
                if kind == FORCED:
                    span = slice(gradient_first[g], gradient_first[g + 1])
                    gradients[done : done + count, :n] = a["gradients"][span].reshape(count, n, 3)
                energies.append(a["energies"][geometry_first[g] : geometry_first[g + 1]])
                baselines.append(a["baselines"][geometry_first[g] : geometry_first[g + 1]])
                first.append(done)
                done += count
            graph = collate_graphs([tables[i] for i in mine], pad_to=size)
            small = {f.name: getattr(graph, f.name) for f in fields(GraphBatch)}
            for name in ("atomic_numbers", "atom_features", "bond_types", "hops", "relations", "centre_neighbours"):
                small[name] = small[name].to(torch.uint8)
            small["rotors"], small["turned"] = small["rotors"][:, :0], small["turned"][:, :0]
            info = torch.from_numpy(a["group"][rows].astype(np.int64)).to(device)
            buckets[size] = Bucket(
                graph=GraphBatch(**small).to(device),
                owner=torch.tensor([local[int(i)] for i in a["group"][rows, 0]], device=device),
                first=torch.tensor(first, device=device),
                count=info[:, 1],
                kind=info[:, 2],
                positions=torch.from_numpy(positions).to(device),
                energies=torch.from_numpy(np.concatenate(energies)).to(device),
                baselines=torch.from_numpy(np.concatenate(baselines)).to(device),
                gradients=torch.from_numpy(gradients).to(device),
            )
        found.append(buckets)
    return found[0], found[1]


def huber(square: Tensor) -> Tensor:
    """Pseudo-Huber function of one unit, of a square."""
    return (1.0 + square).sqrt() - 1.0


class Work:
    """Loss and gradients of batches of one kind: with ``graphs``, each bucket's work is captured once and replayed.

    A step has thousands of small kernels: launched one by one they take four times as long.
    """

    def __init__(
        self, network: EnergyNetwork, buckets: dict[int, Bucket], kind: int, *, pairs: int, each: int, graphs: bool
    ):
        self.network, self.kind, self.each, self.graphs = network, kind, each, graphs
        self.buckets, self.members = {}, {}
        for size, b in buckets.items():
            rows = torch.nonzero(b.kind == kind)[:, 0]
            if len(rows):
                self.buckets[size], self.members[size] = b, rows
        self.width = {k: max(1, pairs // (each * k**2)) for k in self.buckets}
        device = next(network.parameters()).device
        self.weight = torch.ones((), device=device)
        self.inputs = {
            k: (rows[:1].repeat(self.width[k]), torch.rand(self.width[k], each, device=device))
            for k, rows in self.members.items()
        }
        self.outputs: dict[int, Tensor] = {}
        self.captured: dict[int, torch.cuda.CUDAGraph] = {}
        self.plan = self._plan()

    def _plan(self) -> Iterator[tuple[int, Tensor]]:
        while True:
            plan = []
            for size, rows in self.members.items():
                width = self.width[size]
                shuffled = rows[torch.randperm(len(rows), device=rows.device)]
                missing = -len(rows) % width
                shuffled = torch.cat([shuffled, rows[torch.randint(len(rows), (missing,), device=rows.device)]])
                plan += [(size, part) for part in shuffled.split(width)]
            for k in torch.randperm(len(plan)).tolist():
                yield plan[k]

    def _backward(self, size: int) -> Tensor:
        error, slope = self.buckets[size].losses(self.network, *self.inputs[size], self.kind)
        energy = huber(error.square()).mean()
        # Padding has no errors; the mean is over all rows, so that the batch stays of one shape.
        gradient = huber(slope.square().sum(-1)).mean()
        (self.weight * energy + gradient).backward()
        return torch.stack([energy.detach(), gradient.detach()])

    def step(self) -> Tensor:
        """Add the gradients of one batch; its losses."""
        size, groups = next(self.plan)
        self.inputs[size][0].copy_(groups)
        self.inputs[size][1].uniform_()
        if not self.graphs:
            return self._backward(size)
        if size not in self.captured:
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(2):
                    self._backward(size)
            torch.cuda.current_stream().wait_stream(side)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                self.outputs[size] = self._backward(size)
            self.captured[size] = graph
        self.captured[size].replay()
        return self.outputs[size]


def quality(network: EnergyNetwork, held: dict[int, Bucket]) -> dict[str, float]:
    """Errors on held-out isomers: of energies of each kind, kcal/mol; of gradients, kcal/mol/Å, padding counted."""
    device = next(network.parameters()).device
    rng = torch.Generator(device).manual_seed(0)
    found: dict[str, list[Tensor]] = {"plain": [], "forced": [], "ranked": [], "gradient": []}
    for b in held.values():
        for kind, name in enumerate(("plain", "forced", "ranked")):
            for part in torch.nonzero(b.kind == kind)[:, 0].split(96):
                if len(part) == 0:
                    continue
                draw = torch.rand(len(part), 8, generator=rng, device=device)
                e, f = b.losses(network, part, draw, kind)
                found[name].append(e.detach().square().mean(1).sqrt())
                if kind == FORCED:
                    found["gradient"].append(f.detach().flatten(1).square().mean(1).sqrt())
    return {k: round(float(torch.cat(v).mean()), 4) if v else float("nan") for k, v in found.items()}


class Fit:
    """A network, its average, and the schedule by time."""

    def __init__(self, network: EnergyNetwork, held: dict[int, Bucket], options: argparse.Namespace) -> None:
        self.network, self.held, self.options = network, held, options
        self.average = EnergyNetwork(network.settings).to(next(network.parameters()).device)
        self.began, self.lines = time.monotonic(), []

    def run(self, name: str, works: list[Work], *, minutes: float, rate: float, weights: tuple[float, float]) -> None:
        """Fit for some minutes; write the averaged weights at each report."""
        self.average.load_state_dict(self.network.state_dict())
        trained = [p for p in self.network.parameters() if p.requires_grad]
        averaged = [
            a for a, p in zip(self.average.parameters(), self.network.parameters(), strict=True) if p.requires_grad
        ]
        optimizer = torch.optim.AdamW(trained, lr=rate, weight_decay=self.options.decay, fused=True)
        began, step, next_report, counted, sums = time.monotonic(), 0, 0.1, 0, 0.0
        for p in trained:
            p.grad = torch.zeros_like(p)
        grads = [p.grad for p in trained]
        while (share := (time.monotonic() - began) / (60.0 * minutes)) < 1.0:
            for group in optimizer.param_groups:
                group["lr"] = rate * min(1.0, (step + 1) / 300) * 0.5 * (1.0 + np.cos(np.pi * share))
            for work in works:
                work.weight.fill_(weights[0] + (weights[1] - weights[0]) * share)
            # A capture runs the work for practice: its gradients do not count.
            before = sum(len(work.captured) for work in works)
            torch._foreach_zero_(grads)
            losses = [work.step() for work in works]
            if sum(len(work.captured) for work in works) != before:
                continue
            torch.nn.utils.clip_grad_norm_(trained, 5.0)
            optimizer.step()
            with torch.no_grad():
                torch._foreach_lerp_(averaged, trained, 1.0 - min(0.999, (1 + step) / (10 + step)))
                sums = sums + torch.cat([x.detach() for x in losses])
            counted, step = counted + 1, step + 1
            if share >= next_report:
                next_report += 1.0 / self.options.reports
                mean = [round(x, 4) for x in (sums / counted).tolist()]
                counted, sums = 0, 0.0
                self.report(name, step, mean)
        torch.cuda.synchronize() if torch.cuda.is_available() else None
        self.report(name, step, [])

    def report(self, name: str, step: int, losses: list[float]) -> None:
        """Errors on held-out isomers, and the weights, as a folder of ``train-ranker``."""
        line = {"phase": name, "step": step, "seconds": round(time.monotonic() - self.began), "losses": losses}
        line |= quality(self.average, self.held)
        self.lines.append(line)
        out = self.options.out
        print(out.name, json.dumps(line), flush=True)
        # Of the ranker the best is kept: it is soon overfitted.
        if name == "ranker" and line["ranked"] > min(x["ranked"] for x in self.lines if x["phase"] == name):
            return
        files, about = ranker_files(self.average, log=self.lines)
        settings = {"schema": SCHEMA, "step": step, "ranker": about}
        out.mkdir(parents=True, exist_ok=True)
        write_checkpoint(out / name, files | {SETTINGS: json.dumps(settings).encode()})


def train(options: argparse.Namespace) -> None:
    """Fit a potential, then fit that on to the order of samples."""
    device = torch.device(options.device)
    torch.set_float32_matmul_precision("high")
    torch.manual_seed(0)
    began = time.monotonic()
    training, held = load(options.data, device)
    print(f"loaded in {time.monotonic() - began:.0f} s", {k: len(b.energies) for k, b in training.items()}, flush=True)
    settings = NetworkSettings(
        channels=options.channels, layers=options.layers, heads=8, odd_channels=options.odd, n_radial=32
    )
    network = EnergyNetwork(settings).to(device)
    if options.init:
        network.load_state_dict(load_ranker(options.init / "potential", device=device).state_dict())

    def work(kind: int, pairs: int) -> Work:
        return Work(network, training, kind, pairs=pairs, each=8, graphs=device.type == "cuda" and not options.eager)

    fit = Fit(network, held, options)
    both = [work(FORCED, options.pairs), work(PLAIN, options.pairs // 2)]
    fit.run("potential", both, minutes=0.86 * options.minutes, rate=options.rate, weights=(0.1, 1.0))
    network.load_state_dict(fit.average.state_dict())
    last = [work(RANKED, options.pairs // 2), work(PLAIN, options.pairs // 2)]
    fit.run("ranker", last, minutes=0.14 * options.minutes, rate=0.2 * options.rate, weights=(1.0, 1.0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    packing = commands.add_parser("pack")
    packing.add_argument("forces", type=Path)
    packing.add_argument("-o", "--out", type=Path, required=True)
    training = commands.add_parser("train")
    training.add_argument("data", type=Path)
    training.add_argument("-o", "--out", type=Path, required=True)
    training.add_argument("--channels", type=int, default=64)
    training.add_argument("--layers", type=int, default=4)
    training.add_argument("--odd", type=int, default=16)
    training.add_argument("--minutes", type=float, default=9.0)
    training.add_argument("--rate", type=float, default=2e-3)
    training.add_argument("--decay", type=float, default=0.01)
    training.add_argument("--pairs", type=int, default=400_000, help="padded atom pairs in a batch")
    training.add_argument("--init", type=Path, help="go on from the potential of this run")
    training.add_argument("--reports", type=int, default=10)
    training.add_argument("--eager", action="store_true", help="launch kernels one by one")
    training.add_argument("--device", default="cuda")
    options = parser.parse_args()
    if options.command == "pack":
        pack(options.forces, options.out)
    else:
        train(options)


if __name__ == "__main__":
    main()
