"""Inputs both backbones share: embeddings, radial basis, pair codes, signed volumes."""

import math
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from conformergen.records.batch import GraphBatch

#: Elements with an embedding, by atomic number.
_N_ELEMENTS: Final = 119
#: Vocabulary of each column of ``records.ATOM_FEATURES``.
_FEATURE_SIZES: Final = (17, 8, 9, 2, 10, 5, 2)
#: Bond types 0-4, hops 0-8 (longer ones share a code), relations 0-2.
_PAIR_SIZES: Final = (5, 9, 3)
#: Number of codes of a pair of atoms.
N_PAIR_CODES: Final = sum(_PAIR_SIZES)
#: Added to squared lengths before the square root, in Å², to keep its gradient finite.
_EPSILON: Final = 1e-6


class AtomEmbedding(nn.Module):
    """Scalars of each atom from its codes, the noise level, and the true scalar handedness x signed volume."""

    frequencies: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.elements = nn.Embedding(_N_ELEMENTS, channels)
        self.features = nn.ModuleList(nn.Embedding(size, channels) for size in _FEATURE_SIZES)
        self.stereo = nn.Linear(2, channels, bias=False)
        self.noise = nn.Sequential(nn.Linear(16, channels), nn.SiLU(), nn.Linear(channels, channels))
        self.register_buffer("frequencies", 2.0 ** torch.arange(8) * math.pi / 8.0, persistent=False)

    def forward(
        self, graph: GraphBatch, volumes: Float[Tensor, "batch atom"], noise: Float[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "batch atom channel"], Float[Tensor, "batch channel"]]:
        """Atom scalars, and the noise embedding for conditioning."""
        x = self.elements(graph.atomic_numbers)
        for column, table in enumerate(self.features):
            x = x + table(graph.atom_features[..., column])
        product = torch.stack([graph.handedness * volumes, graph.handedness.abs()], dim=-1)
        angles = noise[:, None] * self.frequencies
        noise_embedding = self.noise(torch.cat([angles.sin(), angles.cos()], dim=-1))
        return x + self.stereo(product.to(x.dtype)) + noise_embedding[:, None], noise_embedding


def signed_volumes(graph: GraphBatch, positions: Float[Tensor, "batch atom 3"]) -> Float[Tensor, "batch atom"]:
    """Det of the unit arms of each stereocentre; a pseudoscalar (0o), 0 elsewhere. See ``geometry.stereo``."""
    n = positions.shape[1]
    index = graph.centre_neighbours.flatten(1)[..., None].expand(-1, -1, 3)
    corners = positions.gather(1, index).unflatten(1, (n, 4))
    arms = corners[:, :, :3] - corners[:, :, 3:]
    arms = arms / (arms.square().sum(-1, keepdim=True) + _EPSILON).sqrt()
    volume = (arms[:, :, 0] * torch.linalg.cross(arms[:, :, 1], arms[:, :, 2])).sum(-1)
    return volume * graph.handedness.abs()


def radial_basis(distances: Float[Tensor, "*pair"], n: int) -> Float[Tensor, "*pair basis"]:
    """Exponential-normal basis (Unke, Meuwly 2019, doi 10.1021/acs.jctc.9b00181), dense at bonding distances."""
    alpha, start = 0.5, math.exp(-0.5 * 12.0)
    centres = torch.linspace(start, 1.0, n, dtype=distances.dtype, device=distances.device)
    width = (2.0 / n * (1.0 - start)) ** -2
    exponent = -width * (torch.exp(-alpha * distances)[..., None] - centres).square()
    return torch.exp(exponent.clamp(min=-60.0))


def pair_codes(graph: GraphBatch, dtype: torch.dtype) -> Float[Tensor, "batch atom atom code"]:
    """One-hot bond type, hop count and cis-trans relation, side by side."""
    codes = (graph.bond_types, graph.hops.clamp(max=_PAIR_SIZES[1] - 1), graph.relations)
    hot = [nn.functional.one_hot(c, size) for c, size in zip(codes, _PAIR_SIZES, strict=True)]
    return torch.cat(hot, dim=-1).to(dtype)
