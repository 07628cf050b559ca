"""A read-out that rotates bonds, because the errors of force-field minima lie mostly in their torsions.

A displacement read out atom by atom must learn that all atoms beyond a bond move together. The angle of the bond says
so directly. With the axis u of the bond jk, the atoms i beyond k, arms r_i from k, and pushes f_i of the atoms (1o):

    angle = 0.1 g(x_j + x_k, x_j x_k) . [u . (v_j x v_k), p_j + p_k, u . (a_k - a_j), swing]
    swing = sum_i (u x r_i) . f_i / (1 + sum_i |u x r_i|^2)

``swing`` is the angle that the pushes amount to, torque over moment of inertia. All terms are pseudoscalars (0o), so
mirror images rotate the other way, and g is a perceptron of scalars. The rotations are applied exactly, one bond after
another; the rotation of the whole molecule that comes with them is removed.
"""

from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from conformergen.geometry.rotations import centre
from conformergen.nn.linear import ChannelLinear, bounded_scalars, bounded_vectors
from conformergen.records.batch import GraphBatch

#: Smallest length of an axis, Å, and smallest relative moment of inertia.
_EPSILON: Final = 1e-6
#: Angle in radians for an output of 1.
_UNIT: Final = 0.1
#: Channels of the pushes.
_PUSHES: Final = 32

Positions = Float[Tensor, "batch atom 3"]


class TorsionReadout(nn.Module):
    """Angles of all rotatable bonds, from the features of their ends and pushes on the atoms beyond them."""

    def __init__(self, channels: int, odd: int) -> None:
        super().__init__()
        last = nn.Linear(2 * channels, channels + 2 * odd + _PUSHES)
        # All angles are zero before the first step, so a network trained without this read-out can be the start.
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.weights = nn.Sequential(nn.LayerNorm(2 * channels), nn.Linear(2 * channels, 2 * channels), nn.SiLU(), last)
        self.gate = nn.Sequential(nn.LayerNorm(channels), nn.Linear(channels, channels))
        self.pushes = ChannelLinear("1o", channels, _PUSHES)

    def forward(
        self,
        graph: GraphBatch,
        positions: Positions,
        x: Float[Tensor, "batch atom channel"],
        v: Float[Tensor, "batch atom 3 channel"],
        p: Float[Tensor, "batch atom odd"],
        a: Float[Tensor, "batch atom 3 odd"],
    ) -> Float[Tensor, "batch rotatable"]:
        """Angle of each bond, radians; the same whichever end comes first."""
        batch = torch.arange(len(positions), device=positions.device)[:, None]
        j, k = graph.rotatable_bonds.unbind(-1)
        axis = nn.functional.normalize(positions[batch, k] - positions[batch, j], dim=-1, eps=_EPSILON)[..., None]
        vn, pn, an = bounded_vectors(v), bounded_scalars(p), bounded_vectors(a)
        twist = (axis * torch.linalg.cross(vn[batch, j], vn[batch, k], dim=-2)).sum(-2)
        axial = (axis * (an[batch, k] - an[batch, j])).sum(-2)
        # Torque about the bond over the moment of inertia.
        push = self.pushes(v * self.gate(x)[:, :, None])
        arms = positions[:, None] - positions[batch, k][:, :, None]
        arms = arms * graph.moving_atoms[..., None]
        lever = torch.linalg.cross(axis.mT.expand_as(arms), arms)
        torque = torch.einsum("btnd,bndq->btq", lever, push)
        swing = torque / (lever.square().sum((-2, -1))[..., None] + 1.0)
        odd = torch.cat([twist, pn[batch, j] + pn[batch, k], axial, swing], dim=-1)
        even = torch.cat([x[batch, j] + x[batch, k], x[batch, j] * x[batch, k]], dim=-1)
        return _UNIT * (self.weights(even) * odd).sum(-1)


def turn_bonds(graph: GraphBatch, positions: Positions, angles: Float[Tensor, "batch rotatable"]) -> Positions:
    """Positions after the atoms beyond every bond were rotated by its angle, in radians."""
    batch = torch.arange(len(positions), device=positions.device)
    for index in range(graph.rotatable_bonds.shape[1]):
        j, k = graph.rotatable_bonds[:, index].unbind(-1)
        pivot = positions[batch, k][:, None]
        axis = nn.functional.normalize(pivot - positions[batch, j][:, None], dim=-1, eps=_EPSILON)
        arms = positions - pivot
        angle = angles[:, index, None, None]
        along = (axis * arms).sum(-1, keepdim=True) * axis
        moved = torch.linalg.cross(axis.expand_as(arms), arms) * angle.sin() + (arms - along) * (angle.cos() - 1.0)
        positions = positions + moved * graph.moving_atoms[:, index, :, None]
    return positions


def without_rotation(graph: GraphBatch, positions: Positions, displacement: Positions) -> Positions:
    """Displacement without its rigid motion, to first order: mean and angular momentum of equal masses become zero."""
    mask = graph.mask[..., None].to(positions.dtype)
    arms, displacement = centre(positions, graph), centre(displacement, graph)
    momentum = torch.linalg.cross(arms, displacement).sum(1)
    outer = arms.mT @ arms
    trace = outer.diagonal(dim1=-2, dim2=-1).sum(-1)[:, None, None]
    eye = torch.eye(3, dtype=positions.dtype, device=positions.device)
    inertia = trace * eye - outer + (_EPSILON + 1e-4 * trace) * eye
    spin = torch.linalg.solve(inertia, momentum)
    return (displacement - torch.linalg.cross(spin[:, None].expand_as(arms), arms)) * mask
