"""Training losses on denoised coordinates."""

from collections.abc import Mapping
from typing import Final, Protocol

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from conformergen.records.batch import GraphBatch

Positions = Float[Tensor, "batch atom 3"]
#: Weight of the 1-2 and 1-3 distance term relative to the coordinate term.
_LOCAL_WEIGHT: Final = 2.0
#: Errors below this many Å count quadratically in ``robust``.
_HUBER: Final = 0.05


class Loss(Protocol):
    """Loss of each graph."""

    def __call__(
        self, denoised: Positions, data: Positions, graph: GraphBatch, weight: Float[Tensor, " batch"]
    ) -> Float[Tensor, " batch"]:
        """Weighted error of each graph."""
        ...


def mse(
    denoised: Positions, data: Positions, graph: GraphBatch, weight: Float[Tensor, " batch"]
) -> Float[Tensor, " batch"]:
    """Mean squared displacement over real atoms; both sets share one frame."""
    squared = (denoised - data).square().sum(-1) * graph.mask
    return weight * squared.sum(1) / graph.n_atoms


def _local_distances(
    denoised: Positions, data: Positions, graph: GraphBatch
) -> tuple[Float[Tensor, " pair"], Int64[Tensor, " pair"]]:
    """Absolute error of 1-2 and 1-3 distances, and the graph of each pair.

    Where several basins fit, the mean of the data has shrunken bonds and angles; this asks for the right local
    geometry all the same, since it is common to the basins.
    """
    near = (graph.hops == 1) | (graph.hops == 2)
    near = near & graph.mask[:, :, None] & graph.mask[:, None]
    graph_idx, first, second = near.nonzero(as_tuple=True)

    def distances(positions: Positions) -> Float[Tensor, " pair"]:
        difference = positions[graph_idx, first] - positions[graph_idx, second]
        return (difference.square().sum(-1) + 1e-6).sqrt()

    return distances(denoised) - distances(data), graph_idx


def local(
    denoised: Positions, data: Positions, graph: GraphBatch, weight: Float[Tensor, " batch"]
) -> Float[Tensor, " batch"]:
    """``mse`` plus the squared error of 1-2 and 1-3 distances."""
    error, graph_idx = _local_distances(denoised, data, graph)
    per_graph = torch.zeros_like(weight).index_add_(0, graph_idx, error.square())
    return mse(denoised, data, graph, weight) + _LOCAL_WEIGHT * weight * per_graph / graph.n_atoms


def robust(
    denoised: Positions, data: Positions, graph: GraphBatch, weight: Float[Tensor, " batch"]
) -> Float[Tensor, " batch"]:
    """Pseudo-Huber displacement (Charbonnier et al. 1994) plus pseudo-Huber 1-2 and 1-3 distance errors, Å.

    A squared error is ruled by the pairs whose seed lies in another basin than its reference and drives the
    answer to their mean; this one leans to the most common basin and keeps local geometry sharp.
    """
    scale = weight.sqrt()
    squared = (denoised - data).square().sum(-1) * weight[:, None]
    displacement = ((squared + _HUBER**2).sqrt() - _HUBER) * graph.mask
    error, graph_idx = _local_distances(denoised, data, graph)
    size = ((error * scale[graph_idx]).square() + _HUBER**2).sqrt() - _HUBER
    per_graph = torch.zeros_like(weight).index_add_(0, graph_idx, size)
    return (displacement.sum(1) + _LOCAL_WEIGHT * per_graph) / graph.n_atoms


#: Losses by name.
LOSSES: Final[Mapping[str, Loss]] = {"mse": mse, "local": local, "robust": robust}
