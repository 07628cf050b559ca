"""Torsions of gas-phase minima by the surroundings of their bond: where a torsion search starts.

A torsion library as ETKDG's (Riniker, Landrum 2015, doi 10.1021/acs.jcim.5b00654), but counted from minima of single
molecules, weighted by GFN2-xTB energies, instead of from crystals; and by surroundings that are hashed (Morgan 1965,
doi 10.1021/c160017a018) instead of written by hand. Counts of wider surroundings, which few molecules share, are
smoothed towards those of narrower ones (Dirichlet priors in a chain, MacKay and Peto 1995). Only magnitudes are
counted: a torsion and its mirror image are taken as equally likely.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Float64, Int64

from conformergen.records import ATOM_FEATURES, MolGraph

#: Equal bins of magnitudes from 0 to 180 degrees.
BINS: Final = 18
#: Bonds around the turned bond's ends that the widest surroundings reach.
RADIUS: Final = 2
#: Weight of the narrower surroundings, in molecules.
_PRIOR: Final = 1.0
#: Share of each bin that its neighbours get.
_SMOOTHING: Final = 0.2
#: Energy, kcal/mol, over which the weight of a minimum falls to 1/e: the level of theory is not exact, and a reference
#: ensemble reaches to 6 kcal/mol.
_TEMPERATURE: Final = 2.5
#: What tells atoms apart, beside the element.
_FEATURES: Final = [ATOM_FEATURES.index(name) for name in ("charge + 8", "degree", "aromatic")]
_FILE: Final = Path(__file__).with_name("torsions.npz")


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Surroundings:
    """Rotors of one molecule, ready to be looked up.

    Attributes:
        quartets: Atoms of each torsion; its ends are chosen by their surroundings: equal keys mean equal angles.
        keys: Hash of the surroundings of each bond at each radius.
    """

    quartets: Int64[np.ndarray, "rotor 4"]
    keys: Int64[np.ndarray, "radius rotor"]


def surroundings(graph: MolGraph, bonds: Int64[np.ndarray, "rotor 2"]) -> Surroundings:
    """Torsions about bonds, each of which needs a further neighbour at both ends."""
    neighbours: list[list[tuple[int, int]]] = [[] for _ in range(graph.n_atoms)]
    for (i, j), kind in zip(graph.bonds.tolist(), graph.bond_types.tolist(), strict=True):
        neighbours[i].append((kind, j))
        neighbours[j].append((kind, i))
    features = graph.atom_features[:, _FEATURES].tolist()
    labels = [[_hash(z, *f) for z, f in zip(graph.atomic_numbers.tolist(), features, strict=True)]]
    for _ in range(RADIUS):
        last = labels[-1]
        labels.append([_hash(own, *sorted((t, last[j]) for t, j in neighbours[i])) for i, own in enumerate(last)])

    def end(atom: int, other: int) -> int:
        outer = [j for _, j in neighbours[atom] if j != other]
        return max(outer, key=lambda j: (graph.atomic_numbers[j], len(neighbours[j]), labels[0][j], labels[1][j]))

    pairs = bonds.tolist()
    quartets = [(end(b, c), b, c, end(c, b)) for b, c in pairs]
    keys = [[_hash(*sorted((at[b], at[c]))) for b, c in pairs] for at in labels]
    return Surroundings(
        quartets=np.array(quartets, dtype=np.int64).reshape(-1, 4),
        keys=np.array(keys, dtype=np.int64).reshape(RADIUS + 1, -1),
    )


def _hash(*values: object) -> int:
    """Of plain numbers: the same in every process and version."""
    return int.from_bytes(hashlib.blake2b(repr(values).encode(), digest_size=7).digest(), "little")


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class TorsionLibrary:
    """Counts at each radius: of each key, weights in the bins, which sum to the number of molecules."""

    counts: tuple[Mapping[int, Float64[np.ndarray, " bin"]], ...]

    def distributions(self, found: Surroundings, *, uniform: float) -> Float64[np.ndarray, "rotor bin"]:
        """Probabilities of magnitudes of each torsion; ``uniform`` is the share that knows nothing."""
        rows = []
        for keys in found.keys.T.tolist():
            p = np.full(BINS, 1.0 / BINS)
            for counts, key in zip(self.counts, keys, strict=True):
                if (seen := counts.get(key)) is not None:
                    p = (seen + _PRIOR * p) / (seen.sum() + _PRIOR)
            padded = np.pad(p, 1, mode="edge")
            p = (1.0 - _SMOOTHING) * p + 0.5 * _SMOOTHING * (padded[:-2] + padded[2:])
            rows.append((1.0 - uniform) * p / p.sum() + uniform / BINS)
        return np.array(rows).reshape(-1, BINS)


def draw(p: Float64[np.ndarray, "rotor bin"], n: int, rng: np.random.Generator) -> Float64[np.ndarray, "n rotor"]:
    """Torsions from distributions of their magnitudes, degrees; within a bin and in sign uniform."""
    edges = p.cumsum(axis=1)
    picked = (rng.random((n, len(p), 1)) * edges[:, -1:] > edges).sum(axis=-1)
    degrees = (picked + rng.random(picked.shape)) * (180.0 / BINS)
    return degrees * rng.choice([-1.0, 1.0], size=picked.shape)


def count(
    molecules: Iterable[tuple[Surroundings, Float64[np.ndarray, "conf rotor"], Float64[np.ndarray, " conf"]]],
) -> TorsionLibrary:
    """Count torsions (degrees) of the minima of molecules with their energies (kcal/mol); a molecule counts as one."""
    counts: tuple[dict[int, np.ndarray], ...] = tuple({} for _ in range(RADIUS + 1))
    for found, degrees, energies in molecules:
        weights = np.exp(-(energies - energies.min()) / _TEMPERATURE)
        weights /= weights.sum()
        bins = np.minimum((np.abs(degrees) * (BINS / 180.0)).astype(np.int64), BINS - 1)
        for rotor, column in enumerate(bins.T):
            seen = np.bincount(column, weights=weights, minlength=BINS)
            for at, keys in zip(counts, found.keys, strict=True):
                key = int(keys[rotor])
                at[key] = at.get(key, 0.0) + seen
    return TorsionLibrary(counts=counts)


def save_library(library: TorsionLibrary, path: Path, *, least: float) -> None:
    """Write what at least so many torsions were counted of."""
    arrays: dict[str, Any] = {}
    for radius, counts in enumerate(library.counts):
        kept = {key: seen for key, seen in sorted(counts.items()) if round(seen.sum()) >= least}
        arrays[f"keys{radius}"] = np.array(list(kept), dtype=np.int64)
        arrays[f"counts{radius}"] = np.array(list(kept.values()), dtype=np.float16).reshape(-1, BINS)
    np.savez_compressed(path, **arrays)


@lru_cache(maxsize=1)
def shipped_library() -> TorsionLibrary:
    """The library that comes with the package (``benchmarks/torsion_library.py``)."""
    return load_library(_FILE)


def load_library(path: Path) -> TorsionLibrary:
    """Read what ``save_library`` wrote."""
    with np.load(path, allow_pickle=False) as file:
        return TorsionLibrary(
            counts=tuple(
                dict(zip(file[f"keys{r}"].tolist(), file[f"counts{r}"].astype(np.float64), strict=True))
                for r in range(RADIUS + 1)
            )
        )
