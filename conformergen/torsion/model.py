"""The torsion model: a small network that draws the torsions from which a conformer search starts.

The joint distribution of a molecule's torsions is a product of conditional distributions, in any order (Uria, Murray,
Larochelle 2014, arXiv:1310.1757). Attention over atoms, biased by bond distance (Ying et al. 2021, arXiv:2106.05234),
describes both ends of each torsion; attention over torsions reads the values drawn so far. The network is trained on
GFN2-xTB minima with torch (``training.torsion_model``). Worker processes do not import torch: they evaluate the same
code with NumPy.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Final

import numpy as np
from jaxtyping import Float64
from safetensors import SafetensorError
from safetensors.numpy import load

from conformergen.errors import DataError
from conformergen.torsion.features import FEATURE_SIZES, Array, TorsionFeatures

#: Number of equal bins of a torsion between -180 and 180 degrees.
BINS: Final = 36
#: Number of harmonics that encode a torsion drawn before.
HARMONICS: Final = 4
#: Added to the variance in layer normalisation to avoid division by zero.
EPSILON: Final = 1e-5
#: Added to the attention logits of padding, so that its weight vanishes.
_PADDING_LOGIT: Final = -1e4
#: Largest number of network evaluations for one draw; torsions beyond this number are drawn in groups.
_MAX_EVALUATIONS: Final = 6
#: Pairs of torsions in one evaluation: bounds the memory of a batch of starts.
_MAX_PAIRS: Final = 4_000


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class TorsionModel:
    """The network as a function of its weights.

    Attributes:
        weights: Arrays by name; the numbers of channels, heads and layers follow from their shapes.
        ops: The module ``numpy``, or ``torch`` in training.
        dropout: Applied to what a layer adds; the identity outside training.
    """

    weights: Mapping[str, Array]
    ops: ModuleType = np
    dropout: Callable[[Array], Array] = lambda x: x

    def describe_ends(self, features: TorsionFeatures, *, atoms: Array | None = None) -> Array:
        """Both ends of each torsion in their surroundings: (molecule, torsion, 2, channel).

        Args:
            features: Codes of molecules, padded to one size.
            atoms: Which atoms exist, where some are padding: (molecule, atom).
        """
        w = self.weights
        x = w["element.weight"][features.elements]
        for k in range(len(FEATURE_SIZES)):
            x = x + w[f"feature.{k}.weight"][features.features[..., k]]
        padding = 0.0 if atoms is None else self.ops.where(atoms, 0.0, _PADDING_LOGIT)[:, None, None]
        for at in self._layers("atoms"):
            q, k, v = self._qkv(x, at)
            bias = self.ops.moveaxis(w[f"{at}.bias.weight"][features.pairs], -1, 1)
            read = self._attention(q, k, bias + padding) @ v
            x = self._feed_forward(x, self.ops.swapaxes(read, 1, 2), at)
        x = self._layer_norm(x, "norm")
        molecules = self.ops.arange(len(x))[:, None, None]
        inner, outer = x[molecules, features.quartets[..., [1, 2]]], x[molecules, features.quartets[..., [0, 3]]]
        return self._silu(self._linear(self.ops.concatenate([inner, outer], axis=-1), "end"))

    def condition(
        self, ends: Array, features: TorsionFeatures, *, present: Array | None = None
    ) -> Callable[[Array, Array], Array]:
        """Conditional distributions of the torsions, as a function of those drawn so far.

        Args:
            ends: Result of ``describe_ends`` for the molecule of each conformer, or for the one molecule.
            features: Codes of the conformers.
            present: Which torsions exist, where some are padding: (conformer, torsion).

        Returns:
            A function of the torsions in radians and of a mask of those already drawn, both (conformer, torsion). It
            returns logarithms of unnormalised probabilities: (conformer, torsion, bin).
        """
        w, ops = self.weights, self.ops
        sided = ends + w["side.weight"][features.sides]
        tokens = self._linear(ops.concatenate([sided.sum(2), sided[:, :, 0] * sided[:, :, 1]], axis=-1), "token")
        # There are fewer codes of relations than relations, so the table is transformed once and then looked up.
        table = w["relation.0.weight"][:, None, None, None] + w["relation.1.weight"][:, None, None]
        table = (table + w["relation.2.weight"][:, None] + w["relation.3.weight"]).reshape(-1, tokens.shape[-1])
        padding = 0.0 if present is None else ops.where(present, 0.0, _PADDING_LOGIT)[:, None, None]
        layers = []
        for at in self._layers("rotors"):
            bias = ops.moveaxis(self._linear(table, f"{at}.bias")[features.relations], -1, 1)
            layers.append((at, bias + padding, 1.0 + self._linear(table, f"{at}.gate")[features.relations]))

        def conditional(radians: Array, known: Array) -> Array:
            angle = radians[..., None] * ops.arange(1, HARMONICS + 1, dtype=radians.dtype)
            drawn = self._linear(ops.concatenate([ops.cos(angle), ops.sin(angle)], axis=-1), "angle")
            x = tokens + ops.where(known[..., None], drawn, w["open"])
            for at, bias, gate in layers:
                q, k, v = self._qkv(x, at)
                weights = ops.moveaxis(self._attention(q, k, bias), 1, -1)[..., None]
                heads = (*weights.shape[:-1], -1)
                read = (weights * gate.reshape(heads) * ops.swapaxes(v, 1, 2)[:, None]).sum(2)
                x = self._feed_forward(x, read, at)
            return self._linear(self._layer_norm(x, "last"), "out")

        return conditional

    def _layers(self, kind: str) -> list[str]:
        """Prefixes of the weights of the layers of one kind, ``atoms`` or ``rotors`` (torsions), in depth order."""
        return sorted({".".join(name.split(".")[:2]) for name in self.weights if name.startswith(f"{kind}.")})

    def _qkv(self, x: Array, at: str) -> list[Array]:
        """Queries, keys and values of each head: (batch, head, token, channel)."""
        heads = (*x.shape[:-1], self.weights["atoms.0.bias.weight"].shape[1], -1)
        y = self._layer_norm(x, f"{at}.before")
        return [self.ops.swapaxes(self._linear(y, f"{at}.{name}").reshape(heads), 1, 2) for name in "qkv"]

    def _attention(self, q: Array, k: Array, bias: Array) -> Array:
        """Softmax over tokens of the scaled products of queries and keys plus a bias."""
        score = q @ self.ops.swapaxes(k, -1, -2) / q.shape[-1] ** 0.5 + bias
        e = self.ops.exp(score - self.ops.amax(score, axis=-1, keepdims=True))
        return e / e.sum(axis=-1, keepdims=True)

    def _feed_forward(self, x: Array, read: Array, at: str) -> Array:
        """Add the projected result of the attention, then a two-layer perceptron."""
        x = x + self.dropout(self._linear(read.reshape(x.shape), f"{at}.o"))
        wide = self._silu(self._linear(self._layer_norm(x, f"{at}.after"), f"{at}.wide"))
        return x + self.dropout(self._linear(wide, f"{at}.narrow"))

    def _linear(self, x: Array, at: str) -> Array:
        return x @ self.weights[f"{at}.weight"].T + self.weights[f"{at}.bias"]

    def _layer_norm(self, x: Array, at: str) -> Array:
        centred = x - x.mean(axis=-1, keepdims=True)
        scale = ((centred**2).mean(axis=-1, keepdims=True) + EPSILON) ** -0.5
        return centred * scale * self.weights[f"{at}.weight"] + self.weights[f"{at}.bias"]

    def _silu(self, x: Array) -> Array:
        return x / (1.0 + self.ops.exp(-x))


def draw_torsions(
    model: TorsionModel, features: TorsionFeatures, n: int, rng: np.random.Generator, *, uniform: float
) -> Float64[np.ndarray, "n torsion"]:
    """Draw the torsions, in degrees, of ``n`` starts of one molecule; start i uses conformer i modulo their number.

    Args:
        model: A model with NumPy weights.
        features: Result of ``torsion_features``.
        n: Number of starts.
        rng: Draws the order of the torsions, the bins and the places inside bins.
        uniform: Fraction of the torsions that are drawn uniformly from all angles.
    """
    size = features.quartets.shape[1]
    ends = model.describe_ends(features)
    degrees = np.zeros((n, size))
    step = max(1, _MAX_PAIRS // size**2)
    for begin in range(0, n, step):
        part = np.arange(begin, min(begin + step, n))
        conformers = part % len(features.sides)
        own = replace(features, sides=features.sides[conformers], relations=features.relations[conformers])
        conditional = model.condition(ends, own)
        known = np.zeros((len(part), size), dtype=bool)
        rows = np.arange(len(part))[:, None]
        order = rng.random((len(part), size)).argsort(axis=1)
        for group in np.array_split(order, min(size, _MAX_EVALUATIONS), axis=1):
            logits = conditional(np.radians(degrees[part]).astype(np.float32), known)[rows, group].astype(np.float64)
            p = np.exp(logits - logits.max(axis=-1, keepdims=True))
            p = (1.0 - uniform) * p / p.sum(axis=-1, keepdims=True) + uniform / BINS
            edges = p.cumsum(axis=-1)
            picked = (rng.random((*group.shape, 1)) * edges[..., -1:] > edges).sum(axis=-1)
            degrees[part[:, None], group] = (picked + rng.random(group.shape)) * (360.0 / BINS) - 180.0
            known[rows, group] = True
    return degrees


def draw_uniform(n: int, n_torsions: int, rng: np.random.Generator) -> Float64[np.ndarray, "n torsion"]:
    """Torsions in degrees, each drawn uniformly: a search that no training set has biased."""
    return rng.uniform(-180.0, 180.0, (n, n_torsions))


@dataclass(frozen=True, kw_only=True, slots=True)
class TorsionModelFile:
    """Where a worker process finds the torsion model, and what it must find there.

    Attributes:
        path: Weights, as ``train-torsions`` writes them.
        digest: SHA-256 of the file.
    """

    path: str
    digest: str

    def load(self) -> TorsionModel:
        """Read the model, once in each process.

        Raises:
            DataError: When the file is missing, damaged or no longer the one that was announced.
        """
        return _load(self.path, self.digest)


@lru_cache(maxsize=2)
def _load(path: str, digest: str) -> TorsionModel:
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error
    if hashlib.sha256(data).hexdigest() != digest:
        raise DataError(f"{path}: SHA-256 is not that of the checkpoint's torsion model")
    return parse_torsion_model(data, path)


def parse_torsion_model(data: bytes, name: str) -> TorsionModel:
    """Model from the content of a weights file.

    Raises:
        DataError: When the content is no torsion model.
    """
    try:
        weights = {key: w.astype(np.float32) for key, w in load(data).items()}
        for required in ("element.weight", "atoms.0.bias.weight", "out.weight"):
            weights[required]
    except (SafetensorError, KeyError, ValueError) as error:
        raise DataError(f"{name}: not a torsion model ({error})") from error
    return TorsionModel(weights=weights)
