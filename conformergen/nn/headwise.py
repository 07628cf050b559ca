"""Dense head-wise attention network on irreps C x 0e + C x 1o + P x 0o + P x 1e.

Pair coefficients belong to heads, not channels, so that every contraction over neighbours is one GEMM. Scalar
and vector updates follow the equivariant transformer (Thölke, De Fabritiis 2022, arXiv 2202.02541) with head-wise
filters; the parity-odd channels carry handedness, which enters as a pseudoscalar.
"""

import math
from typing import Final, final

import torch
from e3nn import o3
from jaxtyping import Float
from torch import Tensor, nn

from conformergen.geometry.rotations import centre
from conformergen.nn.features import N_PAIR_CODES, AtomEmbedding, pair_codes, radial_basis, signed_volumes
from conformergen.nn.interface import Backbone, NetworkSettings
from conformergen.nn.linear import ChannelLinear, bounded_scalars, bounded_vectors
from conformergen.nn.relaxation import make_branch
from conformergen.nn.torsions import TorsionReadout, turn_bonds, without_rotation
from conformergen.records.batch import GraphBatch

#: Attention is a sum, not a mean: this keeps it near unit size at the 45 atoms of a typical drug.
_ATTENTION_SCALE: Final = 0.2
_EPSILON: Final = 1e-6

Scalars = Float[Tensor, "batch atom channel"]
Vectors = Float[Tensor, "batch atom 3 channel"]
Pseudoscalars = Float[Tensor, "batch atom odd"]
AxialVectors = Float[Tensor, "batch atom 3 odd"]
Pairs = Float[Tensor, "batch head atom atom"]


def _triple(w: Float[Tensor, "batch atom 3 three_odd"], n: int) -> tuple[Pseudoscalars, AxialVectors]:
    """Triple product (0o) and cross product (1e) of three sets of n vectors."""
    first, second, third = w.split(n, dim=-1)
    cross = torch.linalg.cross(first, second, dim=-2)
    return (cross * third).sum(-2), cross


class HeadwiseLayer(nn.Module):
    """One layer; see the module's docstring and ``docs/architecture.md`` for the equations."""

    def __init__(self, settings: NetworkSettings, *, index: int, vectors_given: bool = False) -> None:
        super().__init__()
        c, p, self.heads = settings.channels, settings.odd_channels, settings.heads
        self.channels, self.odd = c, p
        self.norm = nn.LayerNorm(c, elementwise_affine=False)
        self.condition = nn.Linear(c, 2 * c)
        self.nodes = nn.Linear(c, 5 * c)
        self.pseudo_values = nn.Linear(p, p, bias=False)
        self.vectors = ChannelLinear("1o", c, 4 * c)
        self.axial_values = ChannelLinear("1e", p, p)
        self.handed = ChannelLinear("1o", c, 3 * p)
        self.out = nn.Linear(c, 3 * c)
        self.pseudo_out = nn.Linear(3 * p, p, bias=False)
        self.axial_out = ChannelLinear("1e", 2 * p, p)
        self.odd_to_scalar = nn.Linear(2 * p, c, bias=False)
        self.odd_to_vector = ChannelLinear("1o", p, c, gain=0.3)
        self.feed = nn.Sequential(nn.LayerNorm(c), nn.Linear(c, 2 * c), nn.SiLU(), nn.Linear(2 * c, c))
        entries = [o3.Irreps(f"{c}x0e"), o3.Irreps(f"{c}x1o")]
        if settings.relaxation.group == "o3":
            entries += [o3.Irreps(f"{p}x0o"), o3.Irreps(f"{p}x1e")]
        # Vectors are zero before the first layer: a block that reads them would have nothing to learn.
        zero = ("1o", "1e") if index == 0 and not vectors_given else ()
        sources = [i for i, entry in enumerate(entries) if str(entry[0].ir) not in zero]
        self.branch = make_branch(settings.relaxation, entries, index=index, sources=sources)

    def forward(
        self,
        x: Scalars,
        v: Vectors,
        p: Pseudoscalars,
        a: AxialVectors,
        *,
        pairs: tuple[Pairs, Pairs],
        positions: Float[Tensor, "batch atom 3"],
        mask: Float[Tensor, "batch atom 1"],
        level: Float[Tensor, "batch channel"],
    ) -> tuple[Scalars, Vectors, Pseudoscalars, AxialVectors]:
        """Update scalars, vectors, pseudoscalars and axial vectors.

        ``pairs``: what is added to the attention's logits, and what it is multiplied with along r_i - r_j.
        """
        bias, pull = pairs
        c = x.shape[-1]
        scale, shift = self.condition(level)[:, None].chunk(2, dim=-1)
        normed = self.norm(x) * (1.0 + scale) + shift
        vn, pn, an = bounded_vectors(v), bounded_scalars(p), bounded_vectors(a)
        q, k, values, gate, radial = self.nodes(normed).chunk(5, dim=-1)
        v1, v2, v3, v4 = self.vectors(vn).chunk(4, dim=-1)

        def by_head(t: Tensor) -> Tensor:
            return t.unflatten(-1, (self.heads, -1)).transpose(1, 2)

        # What can be scaled or masked atom by atom is not done pair by pair.
        logits = by_head(q / math.sqrt(c // self.heads)) @ by_head(k).transpose(-1, -2)
        attention = nn.functional.silu(logits + bias)
        sent = mask[:, None] * _ATTENTION_SCALE
        gated = torch.sigmoid(gate)[:, :, None] * v4
        stacked = [values, self.pseudo_values(pn), gated.flatten(-2), self.axial_values(an).flatten(-2)]
        # Heads own channels: (.., 3, C) is regrouped so that each head's slice holds its three components.
        packed = torch.cat(
            [
                by_head(stacked[0]),
                by_head(stacked[1]),
                self._pack(gated),
                self._pack(stacked[3].unflatten(-1, (3, -1))),
            ],
            dim=-1,
        )
        messages = attention @ (packed * sent)
        d, e = c // self.heads, self.odd // self.heads
        s, ps, y, ay = messages.split([d, e, 3 * d, 3 * e], dim=-1)
        # Sum over j of c_ij (r_i - r_j) w_j without a tensor of all pairs and three axes.
        weighted = by_head(radial) * sent
        moved = (weighted[..., None, :] * positions[:, None, :, :, None]).flatten(-2)
        sums = (attention * pull) @ torch.cat([weighted, moved], dim=-1)
        total, moved = sums.split([d, 3 * d], dim=-1)
        t = total[..., None, :] * positions[:, None, :, :, None] - moved.unflatten(-1, (3, d))
        t = t.permute(0, 2, 3, 1, 4).flatten(-2)
        o1, o2, o3_ = self.out(s.transpose(1, 2).flatten(-2)).chunk(3, dim=-1)
        dx = (v1 * v2).sum(-2) / math.sqrt(3.0) * o2 + o3_
        dv = v3 * o1[:, :, None] + self._unpack(y) + t
        triple, cross = _triple(self.handed(vn), self.odd)
        axial_dot = (an * cross).sum(-2)
        dp = self.pseudo_out(torch.cat([triple, ps.transpose(1, 2).flatten(-2), pn * axial_dot], dim=-1))
        da = self.axial_out(torch.cat([cross, self._unpack(ay)], dim=-1))
        dx = dx + self.odd_to_scalar(torch.cat([pn * triple, axial_dot], dim=-1))
        dv = dv + self.odd_to_vector(pn[:, :, None] * an)
        if self.branch is not None:
            # Inputs beyond the branch's entries (parity-odd ones, under SO(3)) are not read.
            inputs = [normed[:, :, None], vn, pn[:, :, None], an]
            new = self.branch(inputs, [dx[:, :, None], dv, dp[:, :, None], da], mask[..., None])
            dx, dv, dp, da = new[0][:, :, 0], new[1], new[2][:, :, 0], new[3]
        x = x + dx
        x = (x + self.feed(x)) * mask
        return x, (v + dv) * mask[..., None], (p + dp) * mask, (a + da) * mask[..., None]

    def _pack(self, t: Float[Tensor, "batch atom 3 width"]) -> Float[Tensor, "batch head atom d"]:
        return t.unflatten(-1, (self.heads, -1)).permute(0, 3, 1, 2, 4).flatten(-2)

    def _unpack(self, t: Float[Tensor, "batch head atom d"]) -> Float[Tensor, "batch atom 3 width"]:
        return t.unflatten(-1, (3, -1)).permute(0, 2, 3, 1, 4).flatten(-2)


@final
class HeadwiseNetwork(Backbone):
    """Stack of head-wise layers over all atom pairs."""

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__(settings)
        c, p = settings.channels, settings.odd_channels
        self.irreps = o3.Irreps(f"{c}x0e + {c}x1o + {p}x0o + {p}x1e")
        self.embedding = AtomEmbedding(c)
        self.handedness = nn.Linear(2, p, bias=False)
        self.pairs = nn.Linear(settings.n_radial + N_PAIR_CODES, settings.layers * 2 * settings.heads)
        self.layers = nn.ModuleList(HeadwiseLayer(settings, index=i) for i in range(settings.layers))
        self.readout_gate = nn.Sequential(nn.LayerNorm(c), nn.Linear(c, c))
        self.readout = ChannelLinear("1o", c, 1, gain=0.1)
        self.torsions = TorsionReadout(c, p) if settings.torsions else None

    def forward(
        self, graph: GraphBatch, positions: Float[Tensor, "batch atom 3"], noise: Float[Tensor, " batch"]
    ) -> Float[Tensor, "batch atom 3"]:
        """Displacement of each atom, without its mean."""
        x, v, p, a = self.features(graph, positions, noise)
        moved = centre(self.readout(v * self.readout_gate(x)[:, :, None])[..., 0], graph)
        if self.torsions is None:
            return moved
        rotated = turn_bonds(graph, positions, self.torsions(graph, positions, x, v, p, a))
        return moved + without_rotation(graph, positions, rotated - positions)

    def features(
        self, graph: GraphBatch, positions: Float[Tensor, "batch atom 3"], noise: Float[Tensor, " batch"]
    ) -> tuple[Scalars, Vectors, Pseudoscalars, AxialVectors]:
        """Features of each atom after the last layer, 0e, 1o, 0o and 1e; zero on padding."""
        b, n, _ = positions.shape
        mask = graph.mask[..., None].to(positions.dtype)
        difference = positions[:, :, None] - positions[:, None]
        distances = (difference.square().sum(-1) + _EPSILON).sqrt()
        # No atom pulls at itself; and sums over positions round least about the centre.
        inverse = distances.reciprocal() * ~torch.eye(n, dtype=torch.bool, device=distances.device)
        positions = centre(positions, graph)
        volumes = signed_volumes(graph, positions)
        x, level = self.embedding(graph, volumes, noise)
        pseudo = torch.stack([graph.handedness.to(x.dtype), volumes], dim=-1)
        p = self.handedness(pseudo) * mask
        x, v = x * mask, x.new_zeros(b, n, 3, self.settings.channels)
        a = x.new_zeros(b, n, 3, self.settings.odd_channels)
        pair = torch.cat([radial_basis(distances, self.settings.n_radial), pair_codes(graph, x.dtype)], dim=-1)
        # Pairs last: the layers read each head's table in one piece.
        tables = self.pairs.weight @ pair.flatten(1, 2).mT + self.pairs.bias[:, None]
        tables = tables.view(b, self.settings.layers, 2, self.settings.heads, n, n)
        bias, pull = tables[:, :, 0], tables[:, :, 1] * inverse[:, None, None]
        for i, layer in enumerate(self.layers):
            pairs = (bias[:, i], pull[:, i])
            x, v, p, a = layer(x, v, p, a, pairs=pairs, positions=positions, mask=mask, level=level)
        return x, v, p, a
