"""Torsions of gas-phase minima, drawn one after another by a small network: where a torsion search starts.

The joint distribution of a molecule's torsions as a product of conditional ones, in any order (Uria, Murray, Larochelle
2014, arXiv:1310.1757): attention over atoms, biased by bond distance (Ying et al. 2021, arXiv:2106.05234), describes
the rotors, attention over rotors reads the torsions that are drawn already. Signs mean something beside stereocentres
and beside other torsions, so a rotor also knows on which side of it its neighbours lie. The network is trained on
GFN2-xTB minima (``benchmarks/torsion_model.py``), with torch; worker processes have no torch and evaluate the same
code with NumPy.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any, Final, TypeAlias

import numpy as np
from jaxtyping import Float64, Int64
from safetensors.numpy import load_file

from conformergen.geometry.graph import hop_counts
from conformergen.records import MolGraph

#: Equal bins of a torsion from -180 to 180 degrees.
BINS: Final = 36
#: Elements with an embedding of their own; all others share one.
ELEMENTS: Final = (1, 5, 6, 7, 8, 9, 14, 15, 16, 17, 35, 53)
#: Codes of each of ``records.ATOM_FEATURES``; larger ones count as the largest.
FEATURE_SIZES: Final = (17, 8, 9, 2, 12, 6, 4)
#: Bonds apart from which on pairs of atoms are alike; a bonded pair has a code for each kind of bond beyond it.
_FAR: Final = 13
PAIR_CODES: Final = _FAR + 5
#: Codes of what makes up a relation of two rotors: bonds apart, which ends they share, two times handedness.
RELATION_SIZES: Final = (_FAR + 3, 5, 3, 3)
#: Harmonics of a drawn torsion.
HARMONICS: Final = 4
#: Volume of three unit vectors below which they lie in a plane.
_FLAT: Final = 0.3
#: Torsions are drawn in so many turns at most, and of as many starts at once as have so many pairs of rotors.
_TURNS, _PAIRS = 6, 4_000
#: Beside a variance.
EPSILON: Final = 1e-5
_FILE: Final = Path(__file__).with_name("torsions.safetensors")

#: Of NumPy in workers, of torch in training.
Array: TypeAlias = Any


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Rotors:
    """What the network reads of molecules, and of their conformers whose bonds are turned; all are codes.

    Attributes:
        elements: Of the atoms: (molecule, atom).
        features: As ``FEATURE_SIZES``: (molecule, atom, feature).
        pairs: Bonds apart, or kind of bond: (molecule, atom, atom).
        quartets: Atoms of each torsion: (molecule, rotor, 4).
        sides: Handedness at both ends of a rotor, 0 to 2: (conformer, rotor, 2).
        relations: Of two rotors, numbered through ``RELATION_SIZES``: (conformer, rotor, rotor).
    """

    elements: Array
    features: Array
    pairs: Array
    quartets: Array
    sides: Array
    relations: Array


def torsion_quartets(graph: MolGraph, bonds: Int64[np.ndarray, "rotor 2"]) -> Int64[np.ndarray, "rotor 4"]:
    """Torsions about bonds, each of which needs a further neighbour at both ends: the heaviest and most branched."""
    neighbours = _neighbours(graph)

    def end(atom: int, other: int) -> int:
        outer = [j for j in neighbours[atom] if j != other]
        return max(outer, key=lambda j: (graph.atomic_numbers[j], len(neighbours[j]), -j))

    quartets = [(end(b, c), b, c, end(c, b)) for b, c in bonds.tolist()]
    return np.array(quartets, dtype=np.int64).reshape(-1, 4)


def describe(
    graph: MolGraph, quartets: Int64[np.ndarray, "rotor 4"], positions: Float64[np.ndarray, "conf atom 3"]
) -> Rotors:
    """What the network reads of conformers of one molecule."""
    neighbours = _neighbours(graph)
    hops = np.minimum(hop_counts(graph).astype(np.int64), _FAR)
    pairs = hops.copy()
    i, j = graph.bonds.T
    pairs[i, j] = pairs[j, i] = _FAR + graph.bond_types
    codes = {element: code for code, element in enumerate(ELEMENTS)}
    rows = quartets.tolist()
    n = len(rows)
    sides = np.ones((len(positions), n, 2), dtype=np.int64)
    for rotor, (first, b, c, last) in enumerate(rows):
        for at, (centre, across, own) in enumerate(((b, c, first), (c, b, last))):
            third = [k for k in neighbours[centre] if k not in (across, own)]
            if third:
                other = max(third, key=lambda k: (graph.atomic_numbers[k], len(neighbours[k])))
                sides[:, rotor, at] += _handedness(positions, centre, across, own, other)
    shared_ends = np.zeros((n, n), dtype=np.int64)
    offsets = np.ones((2, len(positions), n, n), dtype=np.int64)
    for r, s in ((r, s) for r in range(n) for s in range(n) if r != s):
        shared = set(rows[r][1:3]) & set(rows[s][1:3])
        if shared:
            centre = shared.pop()
            (y, own), (z, other) = (_ends(rows[k], centre) for k in (r, s))
            shared_ends[r, s] = 1 + 2 * (own == z) + (other == y)
            if own != z:
                offsets[0, :, r, s] += _handedness(positions, centre, y, own, z)
            if other != y:
                offsets[1, :, r, s] += _handedness(positions, centre, y, other, z)
    middles = quartets[:, 1:3]
    apart = hops[middles[:, None, :, None], middles[None, :, None]].min((2, 3)) + 1
    np.fill_diagonal(apart, 0)
    alike = np.broadcast_to(np.stack([apart, shared_ends])[:, None], (2, *offsets.shape[1:]))
    return Rotors(
        elements=np.array([[codes.get(int(z), len(ELEMENTS)) for z in graph.atomic_numbers]]),
        features=np.minimum(graph.atom_features.astype(np.int64), np.array(FEATURE_SIZES) - 1)[None],
        pairs=pairs[None],
        quartets=quartets[None],
        sides=sides,
        relations=np.ravel_multi_index((*alike, *offsets), RELATION_SIZES),
    )


def _neighbours(graph: MolGraph) -> list[list[int]]:
    found: list[list[int]] = [[] for _ in range(graph.n_atoms)]
    for i, j in graph.bonds.tolist():
        found[i].append(j)
        found[j].append(i)
    return found


def _ends(quartet: list[int], centre: int) -> tuple[int, int]:
    """The rotor's other atom, and the end beside the centre from which its torsion is measured."""
    first, b, c, last = quartet
    return (b, last) if c == centre else (c, first)


def _handedness(positions: np.ndarray, centre: int, a: int, b: int, c: int) -> Int64[np.ndarray, " conf"]:
    arms = positions[:, [a, b, c]] - positions[:, [centre]]
    volume = np.linalg.det(arms / np.linalg.norm(arms, axis=-1, keepdims=True))
    return np.where(np.abs(volume) > _FLAT, np.sign(volume), 0).astype(np.int64)


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class TorsionModel:
    """The network.

    Attributes:
        weights: By their names; numbers of channels, heads and layers are read off their shapes.
        ops: NumPy, or torch for training.
        dropout: Of what a layer adds.
    """

    weights: Mapping[str, Array]
    ops: ModuleType = np
    dropout: Callable[[Array], Array] = lambda x: x

    def describe_ends(self, rotors: Rotors, *, atoms: Array | None = None) -> Array:
        """Both ends of each rotor in their surroundings: (molecule, rotor, 2, channel).

        Args:
            rotors: Of molecules, padded to one size.
            atoms: Which atoms there are, where some are padding: (molecule, atom).
        """
        w = self.weights
        x = w["element.weight"][rotors.elements]
        for k in range(len(FEATURE_SIZES)):
            x = x + w[f"feature.{k}.weight"][rotors.features[..., k]]
        bare = 0.0 if atoms is None else self.ops.where(atoms, 0.0, -1e4)[:, None, None]
        for at in self._layers("atoms"):
            q, k, v = self._projected(x, at)
            bias = self.ops.moveaxis(w[f"{at}.bias.weight"][rotors.pairs], -1, 1)
            read = self._shares(q, k, bias + bare) @ v
            x = self._updated(x, self.ops.swapaxes(read, 1, 2), at)
        x = self._normed(x, "norm")
        molecules = self.ops.arange(len(x))[:, None, None]
        inner, outer = x[molecules, rotors.quartets[..., [1, 2]]], x[molecules, rotors.quartets[..., [0, 3]]]
        return self._silu(self._linear(self.ops.concatenate([inner, outer], axis=-1), "end"))

    def condition(
        self, ends: Array, rotors: Rotors, *, present: Array | None = None
    ) -> Callable[[Array, Array], Array]:
        """Conditional distributions of conformers' torsions, as a function of those drawn so far.

        Args:
            ends: Of each conformer's molecule, or of the one molecule.
            rotors: Of the conformers.
            present: Which rotors there are, where some are padding: (conformer, rotor).

        Returns:
            A function of torsions, radians, and of which are known, both (conformer, rotor), that gives logarithms of
            unnormalised probabilities: (conformer, rotor, bin).
        """
        w, ops = self.weights, self.ops
        sided = ends + w["side.weight"][rotors.sides]
        tokens = self._linear(ops.concatenate([sided.sum(2), sided[:, :, 0] * sided[:, :, 1]], axis=-1), "token")
        # There are fewer codes of relations than relations: the table is transformed, and then looked up.
        table = w["relation.0.weight"][:, None, None, None] + w["relation.1.weight"][:, None, None]
        table = (table + w["relation.2.weight"][:, None] + w["relation.3.weight"]).reshape(-1, tokens.shape[-1])
        bare = 0.0 if present is None else ops.where(present, 0.0, -1e4)[:, None, None]
        layers = []
        for at in self._layers("rotors"):
            bias = ops.moveaxis(self._linear(table, f"{at}.bias")[rotors.relations], -1, 1)
            layers.append((at, bias + bare, 1.0 + self._linear(table, f"{at}.gate")[rotors.relations]))

        def conditional(radians: Array, known: Array) -> Array:
            angle = radians[..., None] * ops.arange(1, HARMONICS + 1, dtype=radians.dtype)
            drawn = self._linear(ops.concatenate([ops.cos(angle), ops.sin(angle)], axis=-1), "angle")
            x = tokens + ops.where(known[..., None], drawn, w["open"])
            for at, bias, gate in layers:
                q, k, v = self._projected(x, at)
                share = ops.moveaxis(self._shares(q, k, bias), 1, -1)[..., None]
                heads = (*share.shape[:-1], -1)
                read = (share * gate.reshape(heads) * ops.swapaxes(v, 1, 2)[:, None]).sum(2)
                x = self._updated(x, read, at)
            return self._linear(self._normed(x, "last"), "out")

        return conditional

    def _layers(self, kind: str) -> list[str]:
        return sorted({".".join(name.split(".")[:2]) for name in self.weights if name.startswith(f"{kind}.")})

    def _projected(self, x: Array, at: str) -> list[Array]:
        """Queries, keys and values: (..., head, token, channel)."""
        heads = (*x.shape[:-1], self.weights["atoms.0.bias.weight"].shape[1], -1)
        y = self._normed(x, f"{at}.before")
        return [self.ops.swapaxes(self._linear(y, f"{at}.{name}").reshape(heads), 1, 2) for name in "qkv"]

    def _shares(self, q: Array, k: Array, bias: Array) -> Array:
        score = q @ self.ops.swapaxes(k, -1, -2) / q.shape[-1] ** 0.5 + bias
        e = self.ops.exp(score - self.ops.amax(score, axis=-1, keepdims=True))
        return e / e.sum(axis=-1, keepdims=True)

    def _updated(self, x: Array, read: Array, at: str) -> Array:
        x = x + self.dropout(self._linear(read.reshape(x.shape), f"{at}.o"))
        wide = self._silu(self._linear(self._normed(x, f"{at}.after"), f"{at}.wide"))
        return x + self.dropout(self._linear(wide, f"{at}.narrow"))

    def _linear(self, x: Array, at: str) -> Array:
        return x @ self.weights[f"{at}.weight"].T + self.weights[f"{at}.bias"]

    def _normed(self, x: Array, at: str) -> Array:
        centred = x - x.mean(axis=-1, keepdims=True)
        scale = ((centred**2).mean(axis=-1, keepdims=True) + EPSILON) ** -0.5
        return centred * scale * self.weights[f"{at}.weight"] + self.weights[f"{at}.bias"]

    def _silu(self, x: Array) -> Array:
        return x / (1.0 + self.ops.exp(-x))


def draw_torsions(
    model: TorsionModel, rotors: Rotors, n: int, rng: np.random.Generator, *, uniform: float
) -> Float64[np.ndarray, "n rotor"]:
    """Torsions for ``n`` starts of one molecule, degrees; start i is of conformer i modulo their number.

    Args:
        model: With NumPy's weights.
        rotors: As ``describe`` gives them.
        n: Starts.
        rng: Of orders, bins and places in bins.
        uniform: Share of the torsions that is drawn from all angles alike.
    """
    size = rotors.quartets.shape[1]
    if uniform == 1.0 or size == 0:
        return rng.uniform(-180.0, 180.0, (n, size))
    ends = model.describe_ends(rotors)
    degrees = np.zeros((n, size))
    step = max(1, _PAIRS // size**2)
    for begin in range(0, n, step):
        part = np.arange(begin, min(begin + step, n))
        conformers = part % len(rotors.sides)
        own = replace(rotors, sides=rotors.sides[conformers], relations=rotors.relations[conformers])
        conditional = model.condition(ends, own)
        known = np.zeros((len(part), size), dtype=bool)
        rows = np.arange(len(part))[:, None]
        for turn in np.array_split(rng.random((len(part), size)).argsort(axis=1), min(size, _TURNS), axis=1):
            logits = conditional(np.radians(degrees[part]).astype(np.float32), known)[rows, turn].astype(np.float64)
            p = np.exp(logits - logits.max(axis=-1, keepdims=True))
            p = (1.0 - uniform) * p / p.sum(axis=-1, keepdims=True) + uniform / BINS
            edges = p.cumsum(axis=-1)
            picked = (rng.random((*turn.shape, 1)) * edges[..., -1:] > edges).sum(axis=-1)
            degrees[part[:, None], turn] = (picked + rng.random(turn.shape)) * (360.0 / BINS) - 180.0
            known[rows, turn] = True
    return degrees


def load_torsion_model(path: Path) -> TorsionModel:
    """Read what ``benchmarks/torsion_model.py`` wrote."""
    return TorsionModel(weights={name: w.astype(np.float32) for name, w in load_file(path).items()})


@lru_cache(maxsize=1)
def shipped_torsion_model() -> TorsionModel:
    """The network that comes with the package."""
    return load_torsion_model(_FILE)
