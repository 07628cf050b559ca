"""The network of ``chem.torsion_model``: its training data beside GFN2-xTB minima, and its training.

    python benchmarks/torsion_model.py search molecules.smi -o runs/searched
    python benchmarks/torsion_model.py train data/reference-drugs/* data/reference-gfnff data/single-points \
        data/searched-torsions -o conformergen/chem/torsions.safetensors --minutes 60

``search`` takes the default model as a teacher: the candidates of ``generate`` (torsion search, network) with the
energies that the ranker gives them, at about 1.3 CPU seconds a molecule. Parts of 100 molecules are written when they
are done, and skipped when they are there. Isomers are drawn as for the other training data. ``train`` reads shards and
such parts. A tenth of the isomers (by their keys, as for ``train-ranker``) is held out; the weights kept are those,
averaged over steps, that predict the held-out GFN2-xTB minima best: a run that overfits may be stopped. The schedule
goes by time; one CPU core will do.
Nats are for each torsion, in bins of ten degrees: of all torsions by themselves, and of a random part given the others.
"""

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file
from torch import Tensor, nn
from torch.nn.functional import dropout, layer_norm, linear, one_hot, silu

from conformergen.checkpoint.model import load_model
from conformergen.chem import get_torsions, rotatable_torsions, to_mol
from conformergen.torsion import torsion_minima
from conformergen.chem import rotatable_torsions
from conformergen.commands.info import describe
from conformergen.torsion.features import ELEMENTS, FEATURE_SIZES, PAIR_CODES, RELATION_SIZES, TorsionFeatures
from conformergen.torsion.model import BINS, EPSILON, HARMONICS, TorsionModel, parse_torsion_model
from conformergen.datasets.ranked import RankedSet
from conformergen.io.shards import read_folder
from conformergen.errors import MoleculeError
from conformergen.records import ConformerSet, Molecule
from conformergen.sampling.energies import predict_energies
from conformergen.runtime.devices import limit_threads
from conformergen.generation.starts import CANDIDATES
from conformergen.chem.isomers import choose_isomer
from conformergen.commands.train_ranker import sample_ranked
from conformergen.training.ranking_data import is_held_out

#: kcal/mol over which the weight of a minimum falls to 1/e: no level of theory here is exact, and a reference ensemble
#: reaches to 6 kcal/mol.
TEMPERATURE = 2.5
#: Candidates of a search this far above the lowest are left out, kcal/mol.
WINDOW = 8.0
#: Molecules of ``search`` and of ``train``; larger ones cost too much.
MAX_ATOMS, MAX_ROTORS = 100, 16
#: How often molecules are drawn, by folder: of a cheaper level of theory, or of one or two minima each, less.
SHARES = {"reference-gfnff": 0.3, "single-points": 0.7}
#: Folders whose held-out molecules choose the weights.
JUDGES = ("candidates", "complete", "ensembles", "minima", "relaxed")
PART = 100
WARM_UP, EVALUATIONS = 200, 14
#: Layers whose matrices map channels to channels.
INNER = ("angle", "end", "gate", "k", "narrow", "o", "q", "token", "v", "wide")
#: Share of a bin that its neighbours get, in training.
SMOOTHING = 0.3
#: Share of uniform in what is scored.
UNIFORM = 0.05


class FusedModel(TorsionModel):
    """The same in torch's fused operations, in which a step of training takes three fifths of the time."""

    def _shares(self, q: Tensor, k: Tensor, bias: Tensor) -> Tensor:
        return (q / q.shape[-1] ** 0.5 @ k.transpose(-1, -2) + bias).softmax(-1)

    def _linear(self, x: Tensor, at: str) -> Tensor:
        return linear(x, self.weights[f"{at}.weight"], self.weights[f"{at}.bias"])

    def _normed(self, x: Tensor, at: str) -> Tensor:
        return layer_norm(x, x.shape[-1:], self.weights[f"{at}.weight"], self.weights[f"{at}.bias"], EPSILON)

    def _silu(self, x: Tensor) -> Tensor:
        return silu(x)


@dataclass(frozen=True, eq=False, kw_only=True)
class Torsions:
    """Torsions of minima of one molecule: radians (conformer, rotor), energies in kcal/mol."""

    smiles: str
    rotatable_torsions: TorsionFeatures
    radians: np.ndarray
    energies: np.ndarray
    held_out: bool


def torsions_of(molecule: Molecule, positions: np.ndarray, energies: np.ndarray) -> Torsions | None:
    """None where nothing turns, or too much."""
    mol = to_mol(molecule)
    quartets = rotatable_torsions(molecule.graph, rotatable_torsions(mol)[:, 1:3])
    if not 0 < len(quartets) <= MAX_ROTORS or molecule.graph.n_atoms > MAX_ATOMS:
        return None
    positions = positions.astype(np.float64)
    degrees = np.array([get_torsions(mol, p, quartets) for p in positions])
    return Torsions(
        smiles=molecule.smiles,
        rotatable_torsions=describe(molecule.graph, quartets, positions),
        radians=np.radians(degrees),
        energies=energies - energies.min(),
        held_out=is_held_out(molecule),
    )


def search(options: argparse.Namespace) -> None:
    model, smiles = load_model("default"), [line.split()[0] for line in options.molecules.read_text().splitlines()]
    options.out.mkdir(parents=True, exist_ok=True)
    for begin in range(options.part * PART, len(smiles), options.parts * PART):
        path = options.out / f"{begin:06d}.npz"
        if path.exists():
            continue
        found = []
        for text in smiles[begin : begin + PART]:
            try:
                molecule = choose_isomer(text, text, seed=0)
                positions, baseline = torsion_minima(molecule, options.starts, seed=0, settings=CANDIDATES)
            except MoleculeError as error:
                print(f"{text}: {error.reason}", flush=True)
                continue
            if np.isfinite(baseline).all():
                minima = ConformerSet(molecule=molecule, positions=positions.astype(np.float32))
                moved = sample_ranked(RankedSet(conformers=minima, baseline=baseline), model)
                energies = predict_energies(model.ranker, moved)
                low = energies < energies.min() + WINDOW
                found.append(torsions_of(molecule, moved.conformers.positions[low], energies[low]))
        write(path, [f for f in found if f is not None])
        print(f"{path}: {time.process_time():.0f} CPU-s", flush=True)


def write(path: Path, found: list[Torsions]) -> None:
    """All arrays of each kind end to end, and their shapes."""
    arrays = {f"rotatable_torsions.{f.name}": [getattr(t.rotors, f.name) for t in found] for f in fields(TorsionFeatures)}
    arrays |= {name: [getattr(t, name) for t in found] for name in ("radians", "energies")}
    packed = {"smiles": np.array([t.smiles for t in found]), "held_out": np.array([t.held_out for t in found])}
    for name, values in arrays.items():
        kind = np.float16 if name in ("radians", "energies") else np.uint16
        packed[name] = np.concatenate([v.astype(kind).ravel() for v in values])
        packed[f"{name}.shapes"] = np.array([v.shape for v in values])
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        np.savez_compressed(file, **packed)
    partial.replace(path)


def read(path: Path) -> list[Torsions]:
    """What ``write`` wrote."""
    with np.load(path, allow_pickle=False) as packed:
        smiles, held_out = packed["smiles"].tolist(), packed["held_out"].tolist()

        def values(name: str) -> list[np.ndarray]:
            shapes = packed[f"{name}.shapes"]
            parts = np.split(packed[name], shapes.prod(axis=1).cumsum()[:-1])
            return [p.reshape(shape) for p, shape in zip(parts, shapes, strict=True)]

        columns = {f.name: values(f"rotatable_torsions.{f.name}") for f in fields(TorsionFeatures)}
        radians, energies = values("radians"), values("energies")
    return [
        Torsions(
            smiles=smiles[i],
            rotatable_torsions=TorsionFeatures(**{name: column[i].astype(np.int64) for name, column in columns.items()}),
            radians=radians[i].astype(np.float32),
            energies=energies[i].astype(np.float32),
            held_out=held,
        )
        for i, held in enumerate(held_out)
    ]


def load(folder: Path) -> Iterator[Torsions]:
    for path in sorted(folder.glob("*.npz")):
        yield from read(path)
    if any(folder.glob("*.h5")):
        for s in read_folder(folder):
            if s.energies is not None and (found := torsions_of(s.molecule, s.positions, s.energies)) is not None:
                yield found


class Padded:
    """Molecules and their conformers in padded tensors."""

    def __init__(self, found: list[Torsions]) -> None:
        self.n_atoms = torch.tensor([t.rotors.elements.shape[1] for t in found])
        self.n_rotatable_bonds = torch.tensor([t.radians.shape[1] for t in found])
        counts = np.array([len(t.radians) for t in found])
        self.first = torch.from_numpy(np.cumsum(counts) - counts)
        n, atoms, most = len(found), int(self.n_atoms.max()), int(self.n_rotatable_bonds.max())
        conformers = int(counts.sum())
        self.elements = torch.zeros(n, atoms, dtype=torch.uint8)
        self.features = torch.zeros(n, atoms, len(FEATURE_SIZES), dtype=torch.uint8)
        self.pairs = torch.zeros(n, atoms, atoms, dtype=torch.uint8)
        self.quartets = torch.zeros(n, most, 4, dtype=torch.uint8)
        self.radians = torch.zeros(conformers, most)
        self.sides = torch.zeros(conformers, most, 2, dtype=torch.uint8)
        self.relations = torch.zeros(conformers, most, most, dtype=torch.int16)
        self.weights = torch.zeros(n, int(counts.max()))
        for i, t in enumerate(found):
            r, begin = t.radians.shape[1], int(self.first[i])
            own = slice(begin, begin + len(t.radians))
            for name in ("elements", "features", "pairs", "quartets"):
                target, values = getattr(self, name), torch.from_numpy(getattr(t.rotors, name)[0])
                target[i][tuple(slice(k) for k in values.shape)] = values.to(target.dtype)
            self.radians[own, :r] = torch.from_numpy(t.radians).float()
            self.sides[own, :r] = torch.from_numpy(t.rotors.sides).to(torch.uint8)
            self.relations[own, :r, :r] = torch.from_numpy(t.rotors.relations).to(torch.int16)
            weights = np.exp(-(t.energies.astype(np.float64) - t.energies.min()) / TEMPERATURE)
            self.weights[i, : len(weights)] = torch.from_numpy(weights / weights.sum())
        #: Molecules of alike size stand together.
        self.order = (self.n_rotatable_bonds * 256 + self.n_atoms).argsort()

    def batch(self, ids: Tensor, conformers: int) -> tuple[TorsionFeatures, Tensor, Tensor, Tensor]:
        """Some conformers of each molecule, half of them mirrored; their torsions; which atoms and rotatable_torsions there are."""
        atoms, r = int(self.n_atoms[ids].max()), int(self.n_rotatable_bonds[ids].max())
        chosen = (torch.multinomial(self.weights[ids], conformers, replacement=True) + self.first[ids][:, None]).ravel()
        mirrored = torch.rand(len(chosen)) < 0.5
        sides, relations = self.sides[chosen, :r].long(), self.relations[chosen, :r, :r].long()
        hands = RELATION_SIZES[2] * RELATION_SIZES[3]
        turned = relations - 2 * (relations % hands) + hands - 1
        read_by = TorsionFeatures(
            elements=self.elements[ids, :atoms].long(),
            features=self.features[ids, :atoms].long(),
            pairs=self.pairs[ids, :atoms, :atoms].long(),
            quartets=self.quartets[ids, :r].long(),
            sides=torch.where(mirrored[:, None, None], 2 - sides, sides),
            relations=torch.where(mirrored[:, None, None], turned, relations),
        )
        radians = self.radians[chosen, :r] * torch.where(mirrored, -1.0, 1.0)[:, None]
        present = torch.arange(atoms) < self.n_atoms[ids][:, None]
        turning = torch.arange(r) < self.n_rotatable_bonds[ids.repeat_interleave(conformers)][:, None]
        return read_by, radians, present, turning


def initial(channels: int, layers: int, rotor_layers: int, heads: int) -> dict[str, Tensor]:
    """Weights as of ``nn.Linear``, ``nn.Embedding`` and ``nn.LayerNorm``."""
    c = channels
    modules: dict[str, nn.Module] = {"element": nn.Embedding(len(ELEMENTS) + 1, c), "side": nn.Embedding(3, c)}
    modules |= {f"feature.{k}": nn.Embedding(size, c) for k, size in enumerate(FEATURE_SIZES)}
    modules |= {f"relation.{k}": nn.Embedding(size, c) for k, size in enumerate(RELATION_SIZES)}
    blocks = [f"atoms.{i}" for i in range(layers)] + [f"rotatable_torsions.{i}" for i in range(rotor_layers)]
    for at in blocks:
        modules |= {f"{at}.{name}": nn.Linear(c, c) for name in "qkvo"}
        modules |= {f"{at}.{name}": nn.LayerNorm(c) for name in ("before", "after")}
        modules |= {f"{at}.wide": nn.Linear(c, 2 * c), f"{at}.narrow": nn.Linear(2 * c, c)}
        if at.startswith("atoms"):
            modules[f"{at}.bias"] = nn.Embedding(PAIR_CODES, heads)
        else:
            modules |= {f"{at}.bias": nn.Linear(c, heads), f"{at}.gate": nn.Linear(c, c)}
    modules |= {"norm": nn.LayerNorm(c), "last": nn.LayerNorm(c), "out": nn.Linear(c, BINS)}
    modules |= {"end": nn.Linear(2 * c, c), "token": nn.Linear(2 * c, c), "angle": nn.Linear(2 * HARMONICS, c)}
    weights = {f"{name}.{key}": p for name, m in modules.items() for key, p in m.named_parameters()}
    return weights | {"open": nn.Parameter(torch.zeros(c))}


def nats(model: TorsionModel, data: Padded, ids: Tensor, conformers: int, *, known: bool, score: bool) -> Tensor:
    """Of each conformer, mean over its open torsions; a random part is ``known``. ``score``: unsmoothed, as drawn."""
    read_by, radians, present, turning = data.batch(ids, conformers)
    ends = model.describe_ends(read_by, atoms=present).repeat_interleave(conformers, 0)
    given = torch.zeros_like(turning)
    if known:
        ranks = torch.rand(turning.shape).masked_fill(~turning, 2.0).argsort(1).argsort(1)
        given = ranks < (torch.rand(len(turning), 1) * turning.sum(1, keepdim=True)).floor()
    logits = model.condition(ends, read_by, present=turning)(radians, given).log_softmax(-1)
    target = one_hot((torch.rad2deg(radians) + 180.0).div(360.0 / BINS).long() % BINS, BINS).float()
    if score:
        logits = (logits.exp() * (1.0 - UNIFORM) + UNIFORM / BINS).log()
    else:
        beside = target.roll(1, -1) + target.roll(-1, -1)
        target = (1.0 - SMOOTHING) * target + 0.5 * SMOOTHING * beside
    left = turning & ~given
    return (-(target * logits).sum(-1) * left).sum(1) / left.sum(1).clamp(min=1)


@torch.no_grad()
def scored(model: TorsionModel, data: Padded) -> list[float]:
    """Nats for each torsion by itself, and with a random part given."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        parts = data.order.split(32)
        rotors_of = torch.cat([data.n_rotatable_bonds[ids].repeat_interleave(12) for ids in parts]).float()
        results = []
        for known in (False, True):
            values = torch.cat([nats(model, data, ids, 12, known=known, score=True) for ids in parts])
            results.append(float((values * rotors_of).sum() / rotors_of.sum()))
    return results


def optimisers_of(weights: dict[str, Tensor], options: argparse.Namespace) -> list[torch.optim.Optimizer]:
    """Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon) for matrices inside, AdamW for all else."""
    groups: tuple[list[Tensor], list[Tensor]] = ([], [])
    for name, w in weights.items():
        groups[w.ndim == 2 and name.split(".")[-2] in INNER and not options.adamw].append(w)
    others, matrices = groups
    rates = {"lr": options.lr, "weight_decay": options.decay}
    adamw = torch.optim.AdamW(others, betas=(0.9, 0.98), **rates)
    return [adamw, torch.optim.Muon(matrices, adjust_lr_fn="match_rms_adamw", **rates)] if matrices else [adamw]


def train(options: argparse.Namespace) -> None:
    found, shares, judges = [], [], []
    for folder in options.data:
        for t in load(folder):
            if t.held_out:
                judges += [t] if folder.name in JUDGES else []
                continue
            found.append(t)
            weights = np.exp(-t.energies.astype(np.float64) / TEMPERATURE)
            minima = weights.sum() ** 2 / (weights**2).sum()
            shares.append(SHARES.get(folder.name, 1.0) * min(1.0, 0.25 + 0.25 * minima))
        print(f"{folder}: {len(found)} to train on, {len(judges)} held out", flush=True)
    data, held_out, share = Padded(found), Padded(judges), torch.tensor(shares)
    torch.manual_seed(0)
    rng, begin = np.random.default_rng(0), time.monotonic()
    if options.init is None:
        weights = initial(options.channels, options.layers, options.rotor_layers, options.heads)
    else:
        known = parse_torsion_model(options.init).weights
        weights = {name: nn.Parameter(torch.from_numpy(w)) for name, w in known.items()}
    averaged = {name: w.detach().clone() for name, w in weights.items()}
    model = FusedModel(weights=weights, ops=torch, dropout=lambda x: dropout(x, options.dropout))
    optimisers = optimisers_of(weights, options)
    best, step, done, told = np.inf, 0, 0.0, 0
    while done < 1.0:
        done = (time.monotonic() - begin) / 60 / options.minutes
        cosine = 0.5 * (1.0 + np.cos(np.pi * min(1.0, done)))
        for group in (group for optimiser in optimisers for group in optimiser.param_groups):
            group["lr"] = options.lr * min(1.0, (step + 1) / WARM_UP) * (0.01 + 0.99 * cosine)
        at = rng.integers(0, max(1, len(found) - 8 * options.molecules))
        near = data.order[at : at + 8 * options.molecules]
        ids = near[torch.multinomial(share[near], min(options.molecules, len(near)))]
        loss = nats(model, data, ids, options.conformers, known=True, score=False).mean()
        loss.backward()
        nn.utils.clip_grad_norm_(weights.values(), 1.0)
        for optimiser in optimisers:
            optimiser.step()
            optimiser.zero_grad()
        with torch.no_grad():
            torch._foreach_lerp_(list(averaged.values()), list(weights.values()), max(0.002, 9 / (step + 10)))
        step += 1
        if done * EVALUATIONS >= told + 1:
            told += 1
            result = scored(FusedModel(weights=averaged, ops=torch), held_out)
            print(f"{step} steps, {time.monotonic() - begin:.0f} s: {result[0]:.3f} {result[1]:.3f}", flush=True)
            if result[1] < best:
                best = result[1]
                save_file({name: w.numpy().astype(np.float16) for name, w in averaged.items()}, options.out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    searching = commands.add_parser("search")
    searching.add_argument("molecules", type=Path, help="SMILES, one a line")
    searching.add_argument("-o", "--out", type=Path, required=True)
    searching.add_argument("--starts", type=int, default=48)
    searching.add_argument("--part", type=int, default=0, help="of --parts processes side by side, from 0")
    searching.add_argument("--parts", type=int, default=1)
    searching.set_defaults(run=search)
    training = commands.add_parser("train")
    training.add_argument("data", type=Path, nargs="+", help="folders of shards, or of parts of search")
    training.add_argument("-o", "--out", type=Path, required=True)
    training.add_argument("--init", type=Path, help="weights to go on from; they have the sizes")
    training.add_argument("--minutes", type=float, default=60.0)
    for name, value in (("channels", 96), ("layers", 4), ("rotor-layers", 3), ("heads", 8)):
        training.add_argument(f"--{name}", type=int, default=value)
    for name, value in (("molecules", 48), ("conformers", 4)):
        training.add_argument(f"--{name}", type=int, default=value)
    for name, value in (("lr", 2e-3), ("decay", 0.1), ("dropout", 0.2)):
        training.add_argument(f"--{name}", type=float, default=value)
    training.add_argument("--adamw", action="store_true", help="for the matrices too, instead of Muon")
    training.set_defaults(run=train)
    options = parser.parse_args()
    limit_threads()
    options.run(options)


if __name__ == "__main__":
    main()
