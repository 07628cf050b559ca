"""Dense head-wise attention network on irreps C x 0e + C x 1o + P x 0o + P x 1e.

Pair coefficients belong to heads, not channels, so that every contraction over neighbours is one matrix product. The
updates of scalars and vectors follow the equivariant transformer (Thölke, De Fabritiis 2022, arXiv 2202.02541) with
head-wise filters. The parity-odd channels carry handedness, which enters as a pseudoscalar.

Atom i has scalars x, vectors v, pseudoscalars p and axial vectors a, of which the layer reads bounded or normalised
forms. With H heads, D = C / H, the linear maps W of the layer, and pair features f_ij (radial basis, bond type, number
of bonds between the atoms, cis and trans) that give a bias b_ij and a pull c_ij for each head:

    q, k, s, g, w = W_n x,   v1, v2, v3, v4 = W_v v,   h1, h2, h3 = W_h v
    A_ij = 0.2 SiLU(q_i . k_j / sqrt(D) + b_ij)
    S_i = sum_j A_ij s_j,                    P_i = sum_j A_ij W_p p_j
    Y_i = sum_j A_ij sigmoid(g_j) v4_j,      Z_i = sum_j A_ij W_a a_j
    T_i = sum_j A_ij c_ij (r_i - r_j) w_j = r_i sum_j A_ij c_ij w_j - sum_j A_ij c_ij r_j w_j
    o1, o2, o3 = W_o S,   triple = h1 . (h2 x h3),   cross = h1 x h2
    dx = (v1 . v2) o2 / sqrt(3) + o3 + W_x [p triple, a . cross]
    dv = v3 o1 + Y + T + W_y (p a)
    dp = W_q [triple, P, p (a . cross)]
    da = W_r [cross, Z]

c_ij contains 1 / |r_i - r_j|. The second form of T needs no tensor of all pairs and three axes. Names in the code are
those of the equations. A relaxed branch, where there is one, acts on (dx, dv, dp, da). A perceptron follows on x.
"""

import math
from typing import Final, final

import e3nn.o3
import torch
from jaxtyping import Float
from torch import Tensor, nn

from conformergen.geometry.rotations import centre
from conformergen.nn.features import N_PAIR_CODES, AtomEmbedding, pair_codes, radial_basis, signed_volumes
from conformergen.nn.interface import Backbone, NetworkSettings
from conformergen.nn.linear import ChannelLinear, bounded_scalars, bounded_vectors
from conformergen.nn.relaxation import make_branch
from conformergen.nn.torsions import TorsionReadout, turn_bonds, without_rotation
from conformergen.records.batch import GraphBatch

#: Attention is a sum, not a mean; this factor keeps it near unit size for the 45 atoms of a typical drug.
_ATTENTION_SCALE: Final = 0.2
#: Added to squared distances before the square root, in Å², to keep its gradient finite.
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
    """One layer; the equations are in the docstring of the module."""

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
        entries = [e3nn.o3.Irreps(f"{c}x0e"), e3nn.o3.Irreps(f"{c}x1o")]
        if settings.relaxation.group == "o3":
            entries += [e3nn.o3.Irreps(f"{p}x0o"), e3nn.o3.Irreps(f"{p}x1e")]
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
        noise_embedding: Float[Tensor, "batch channel"],
    ) -> tuple[Scalars, Vectors, Pseudoscalars, AxialVectors]:
        """Update scalars, vectors, pseudoscalars and axial vectors.

        Args:
            x: Scalars.
            v: Vectors.
            p: Pseudoscalars.
            a: Axial vectors.
            pairs: Bias b and pull c of all pairs.
            positions: r, in Å, about their centre.
            mask: 1 for atoms and 0 for padding.
            noise_embedding: Scales and shifts the normalised scalars.
        """
        b, c = pairs
        n_channels = x.shape[-1]
        scale, shift = self.condition(noise_embedding)[:, None].chunk(2, dim=-1)
        xn = self.norm(x) * (1.0 + scale) + shift
        vn, pn, an = bounded_vectors(v), bounded_scalars(p), bounded_vectors(a)
        q, k, s, g, w = self.nodes(xn).chunk(5, dim=-1)
        v1, v2, v3, v4 = self.vectors(vn).chunk(4, dim=-1)

        def by_head(t: Tensor) -> Tensor:
            return t.unflatten(-1, (self.heads, -1)).transpose(1, 2)

        # What can be scaled or masked for each atom is not done for each pair: 0.2 and the mask are factors of the
        # values.
        attention = nn.functional.silu(
            by_head(q / math.sqrt(n_channels // self.heads)) @ by_head(k).transpose(-1, -2) + b
        )
        sent = mask[:, None] * _ATTENTION_SCALE
        # One matrix product sums over the values of all four kinds. Heads own channels, so (.., 3, C) is regrouped
        # until the slice of each head contains its three components.
        values = torch.cat(
            [
                by_head(s),
                by_head(self.pseudo_values(pn)),
                self._pack(torch.sigmoid(g)[:, :, None] * v4),
                self._pack(self.axial_values(an)),
            ],
            dim=-1,
        )
        d, e = n_channels // self.heads, self.odd // self.heads
        S, P, Y, Z = (attention @ (values * sent)).split([d, e, 3 * d, 3 * e], dim=-1)
        w = by_head(w) * sent
        r_w = (w[..., None, :] * positions[:, None, :, :, None]).flatten(-2)
        sum_w, sum_r_w = ((attention * c) @ torch.cat([w, r_w], dim=-1)).split([d, 3 * d], dim=-1)
        T = sum_w[..., None, :] * positions[:, None, :, :, None] - sum_r_w.unflatten(-1, (3, d))
        T = T.permute(0, 2, 3, 1, 4).flatten(-2)
        o1, o2, o3 = self.out(S.transpose(1, 2).flatten(-2)).chunk(3, dim=-1)
        triple, cross = _triple(self.handed(vn), self.odd)
        a_cross = (an * cross).sum(-2)
        dx = (v1 * v2).sum(-2) / math.sqrt(3.0) * o2 + o3
        dx = dx + self.odd_to_scalar(torch.cat([pn * triple, a_cross], dim=-1))
        dv = v3 * o1[:, :, None] + self._unpack(Y) + T
        dv = dv + self.odd_to_vector(pn[:, :, None] * an)
        dp = self.pseudo_out(torch.cat([triple, P.transpose(1, 2).flatten(-2), pn * a_cross], dim=-1))
        da = self.axial_out(torch.cat([cross, self._unpack(Z)], dim=-1))
        if self.branch is not None:
            # Inputs beyond the entries of the branch (parity-odd ones, under SO(3)) are not read.
            inputs = [xn[:, :, None], vn, pn[:, :, None], an]
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
        self.irreps = e3nn.o3.Irreps(f"{c}x0e + {c}x1o + {p}x0o + {p}x1e")
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
        # An atom does not pull itself. Sums over positions have the smallest rounding errors about the centre.
        inverse = distances.reciprocal() * ~torch.eye(n, dtype=torch.bool, device=distances.device)
        positions = centre(positions, graph)
        volumes = signed_volumes(graph, positions)
        x, noise_embedding = self.embedding(graph, volumes, noise)
        pseudo = torch.stack([graph.handedness.to(x.dtype), volumes], dim=-1)
        p = self.handedness(pseudo) * mask
        x, v = x * mask, x.new_zeros(b, n, 3, self.settings.channels)
        a = x.new_zeros(b, n, 3, self.settings.odd_channels)
        pair = torch.cat([radial_basis(distances, self.settings.n_radial), pair_codes(graph, x.dtype)], dim=-1)
        # Pairs are the last axes, so that the layers read the table of each head in one piece.
        tables = self.pairs.weight @ pair.flatten(1, 2).mT + self.pairs.bias[:, None]
        tables = tables.view(b, self.settings.layers, 2, self.settings.heads, n, n)
        bias, pull = tables[:, :, 0], tables[:, :, 1] * inverse[:, None, None]
        for i, layer in enumerate(self.layers):
            pairs = (bias[:, i], pull[:, i])
            x, v, p, a = layer(x, v, p, a, pairs=pairs, positions=positions, mask=mask, noise_embedding=noise_embedding)
        return x, v, p, a
