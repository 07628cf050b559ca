"""Rigid motions of batches: random rotations, and the centre."""

import torch
from jaxtyping import Float
from torch import Tensor

from conformergen.records.batch import GraphBatch


def haar_rotations(normal: Float[Tensor, "n 4"]) -> Float[Tensor, "n 3 3"]:
    """Uniform rotations from standard normal quaternions (Shoemake 1992), float32 or float64."""
    w, x, y, z = (normal / normal.norm(dim=-1, keepdim=True)).unbind(-1)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def centre(positions: Float[Tensor, "batch atom 3"], graph: GraphBatch) -> Float[Tensor, "batch atom 3"]:
    """Subtract each graph's mean over real atoms and zero the padding."""
    mask = graph.mask[..., None].to(positions.dtype)
    return (positions - (positions * mask).sum(1, keepdim=True) / mask.sum(1, keepdim=True).clamp(min=1.0)) * mask
