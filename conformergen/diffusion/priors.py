"""Where sampling starts: an anchor and noise around it."""

from collections.abc import Mapping
from typing import Final, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from conformergen.geometry.rotations import centre
from conformergen.records.batch import GraphBatch

Positions = Float[Tensor, "batch atom 3"]


class Prior(Protocol):
    """Turn standard normal numbers into a starting point."""

    def __call__(self, graph: GraphBatch, normal: Positions, starts: Positions | None) -> tuple[Positions, Positions]:
        """Anchor in Å, and noise whose unit is the path's sigma; both zero on padding, noise without mean."""
        ...


def gaussian(graph: GraphBatch, normal: Positions, starts: Positions | None) -> tuple[Positions, Positions]:
    """Isotropic noise around the origin."""
    del starts
    return torch.zeros_like(normal), centre(normal, graph)


def harmonic(graph: GraphBatch, normal: Positions, starts: Positions | None) -> tuple[Positions, Positions]:
    """Noise with the inverse bond-graph Laplacian as covariance (Jing et al. 2023, arXiv 2304.02198)."""
    del starts
    adjacency = (graph.bond_types > 0).to(normal.dtype)
    # Padding gets large eigenvalues of its own and so stays out of the molecule's modes.
    laplacian = torch.diag_embed(adjacency.sum(-1) + 1e4 * (~graph.mask).to(normal.dtype)) - adjacency
    values, vectors = torch.linalg.eigh(laplacian)
    amplitudes = torch.where(values > 1e-4, values.clamp(min=1e-4).rsqrt(), torch.zeros_like(values))
    return torch.zeros_like(normal), centre(vectors @ (amplitudes[..., None] * normal), graph)


def seed(graph: GraphBatch, normal: Positions, starts: Positions | None) -> tuple[Positions, Positions]:
    """Noise around a seed conformer (ETKDGv3, MMFF94s).

    Raises:
        ValueError: Without seeds.
    """
    if starts is None:
        raise ValueError("the seed prior needs seed conformers")
    return centre(starts, graph), centre(normal, graph)


#: Priors by name.
PRIORS: Final[Mapping[str, Prior]] = {"gaussian": gaussian, "harmonic": harmonic, "seed": seed}
