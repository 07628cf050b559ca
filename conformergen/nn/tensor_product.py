"""e3nn tensor-product network on edge lists with torch-geometric message passing, l up to 2.

The reference design, after NequIP (Batzner et al. 2022, doi 10.1038/s41467-022-29939-5): channel-wise ("uvu")
tensor products of neighbours' features with spherical harmonics, radial weights, linear maps and gates.
"""

from typing import Final, final

import torch
from e3nn import o3
from e3nn.nn import Gate
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch_geometric.nn import MessagePassing

from conformergen.geometry.rotations import centre
from conformergen.nn.features import N_PAIR_CODES, AtomEmbedding, pair_codes, radial_basis, signed_volumes
from conformergen.nn.interface import Backbone, NetworkSettings
from conformergen.nn.linear import from_flat, to_flat
from conformergen.nn.relaxation import make_branch
from conformergen.records.batch import GraphBatch

#: Spherical harmonics of an edge.
_HARMONICS: Final = o3.Irreps("0e + 1o + 2e")
#: Sum over neighbours is divided by the square root of a typical neighbour count within 5 Å.
_NEIGHBOURS: Final = 20.0
#: Added to squared distances before the square root, in Å², to keep its gradient finite.
_EPSILON: Final = 1e-6


class TensorProductLayer(MessagePassing):  # type: ignore[misc]
    """Messages by tensor product, update by linear maps, handedness and a gate."""

    def __init__(self, settings: NetworkSettings, irreps_in: o3.Irreps, irreps_out: o3.Irreps, *, index: int) -> None:
        super().__init__(aggr="add")
        mid: list[tuple[int, o3.Irrep]] = []
        instructions: list[tuple[int, int, int, str, bool]] = []
        for i, (mul, ir) in enumerate(irreps_in):
            for j, (_, ir_y) in enumerate(_HARMONICS):
                for ir_out in ir * ir_y:
                    if ir_out in irreps_out:
                        instructions.append((i, j, len(mid), "uvu", True))
                        mid.append((mul, ir_out))
        irreps_mid = o3.Irreps(mid)
        self.product = o3.TensorProduct(
            irreps_in, _HARMONICS, irreps_mid, instructions, shared_weights=False, internal_weights=False
        )
        self.radial = nn.Sequential(
            nn.Linear(settings.n_radial + N_PAIR_CODES, 64),
            nn.SiLU(),
            nn.Linear(64, self.product.weight_numel),
        )
        scalars = o3.Irreps([(m, ir) for m, ir in irreps_out if ir.l == 0])
        gated = o3.Irreps([(m, ir) for m, ir in irreps_out if ir.l > 0])
        activations = [nn.functional.silu if ir.p == 1 else torch.tanh for _, ir in scalars]
        self.gate = Gate(scalars, activations, f"{gated.num_irreps}x0e", [torch.sigmoid], gated)
        self.mix = o3.Linear(irreps_mid, self.gate.irreps_in)
        self.skip = o3.Linear(irreps_in, self.gate.irreps_in)
        # 0o labels times features of the other parity: how requested handedness reaches even channels.
        self.handed = o3.FullyConnectedTensorProduct(irreps_in, "2x0o", self.gate.irreps_in)
        self.level = nn.Linear(settings.channels, irreps_out[0].mul)
        self.irreps_out = self.gate.irreps_out
        relaxed = ("0e", "1o", "0o", "1e") if settings.relaxation.group == "o3" else ("0e", "1o")
        self.picked = [i for i, entry in enumerate(self.irreps_out) if str(entry.ir) in relaxed]
        entries = [o3.Irreps([self.irreps_out[i]]) for i in self.picked]
        self.branch = make_branch(settings.relaxation, entries, index=index)

    def forward(
        self,
        x: Float[Tensor, "node feature"],
        *,
        edge_index: Int64[Tensor, "2 edge"],
        harmonics: Float[Tensor, "edge harmonic"],
        pair: Float[Tensor, "edge pair"],
        envelope: Float[Tensor, "edge 1"],
        pseudo: Float[Tensor, "node 2"],
        noise_embedding: Float[Tensor, "node channel"],
    ) -> Float[Tensor, "node out"]:
        """Update node features."""
        weights = self.radial(pair) * envelope
        messages = self.propagate(edge_index, x=x, harmonics=harmonics, weights=weights)
        update = self.mix(messages / _NEIGHBOURS**0.5) + self.skip(x) + self.handed(x, pseudo)
        out = self.gate(update)
        n = self.irreps_out[0].mul
        out = torch.cat([out[:, :n] + self.level(noise_embedding), out[:, n:]], dim=-1)
        return self._relax(out)

    def message(self, x_j: Tensor, harmonics: Tensor, weights: Tensor) -> Tensor:
        """Tensor product of a neighbour's features with the direction to it."""
        return self.product(x_j, harmonics, weights)

    def _relax(self, out: Float[Tensor, "node out"]) -> Float[Tensor, "node out"]:
        if self.branch is None:
            return out
        parts = from_flat(out, self.irreps_out)
        relaxed = [parts[i] for i in self.picked]
        inputs = [z / (z.square().sum(-2, keepdim=True).mean(-1, keepdim=True) + 1.0).sqrt() for z in relaxed]
        new = self.branch(inputs, relaxed, out.new_ones(len(out), 1, 1))
        for position, value in zip(self.picked, new, strict=True):
            parts[position] = value
        return to_flat(*parts)


@final
class TensorProductNetwork(Backbone):
    """Stack of tensor-product layers on pairs within the cut-off."""

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__(settings)
        c, p = settings.channels, settings.odd_channels
        hidden = o3.Irreps(f"{c}x0e + {c}x1o + {max(1, c // 2)}x2e + {p}x0o + {p}x1e")
        self.embedding = AtomEmbedding(c)
        self.handedness = nn.Linear(2, p, bias=False)
        first = o3.Irreps(f"{c}x0e + {p}x0o")
        self.layers = nn.ModuleList()
        irreps = first
        for index in range(settings.layers):
            layer = TensorProductLayer(settings, irreps, hidden, index=index)
            irreps = layer.irreps_out
            self.layers.append(layer)
        self.readout = o3.Linear(irreps, "1x1o")
        self.readout.weight.data.mul_(0.1)

    def forward(
        self, graph: GraphBatch, positions: Float[Tensor, "batch atom 3"], noise: Float[Tensor, " batch"]
    ) -> Float[Tensor, "batch atom 3"]:
        """Displacement of each atom, without its mean."""
        b, n, _ = positions.shape
        mask = graph.mask
        volumes = signed_volumes(graph, positions)
        x, noise_embedding = self.embedding(graph, volumes, noise)
        pseudo = torch.stack([graph.handedness.to(x.dtype), volumes], dim=-1)
        node = torch.full((b, n), -1, dtype=torch.int64, device=positions.device)
        node[mask] = torch.arange(int(mask.sum()), device=positions.device)
        difference = positions[:, :, None] - positions[:, None]
        distances = (difference.square().sum(-1) + _EPSILON).sqrt()
        near = (distances < self.settings.cutoff) & mask[:, :, None] & mask[:, None]
        near &= ~torch.eye(n, dtype=torch.bool, device=near.device)
        graph_idx, target, source = near.nonzero(as_tuple=True)
        edge_index = torch.stack([node[graph_idx, source], node[graph_idx, target]])
        r = distances[graph_idx, target, source]
        envelope = 0.5 * (torch.cos(torch.pi * r / self.settings.cutoff) + 1.0)
        codes = pair_codes(graph, x.dtype)[graph_idx, target, source]
        pair = torch.cat([radial_basis(r, self.settings.n_radial), codes], dim=-1)
        harmonics = o3.spherical_harmonics(
            _HARMONICS, difference[graph_idx, target, source], normalize=True, normalization="component"
        )
        features = torch.cat([x[mask], self.handedness(pseudo[mask])], dim=-1)
        noise_embeddings = noise_embedding[:, None].expand(-1, n, -1)[mask]
        for layer in self.layers:
            features = layer(
                features,
                edge_index=edge_index,
                harmonics=harmonics,
                pair=pair,
                envelope=envelope[:, None],
                pseudo=pseudo[mask],
                noise_embedding=noise_embeddings,
            )
        out = torch.zeros_like(positions)
        out[mask] = self.readout(features)
        return centre(out, graph)
