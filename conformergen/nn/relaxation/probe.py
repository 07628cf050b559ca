"""Learned symmetry probe: the ``mlp`` variant of ``recm``.

h <- (1 - lam) h + lam kappa mean[u(x, d) - (1/K) sum_k u(g_k x, g_k d)] in R^8 for each layer, beta = tanh |h|:
a function less its Haar mean has mean zero on symmetric data, whatever the function. (x, d) are inputs and
-dL/dy of the step before; u is trained by the task's loss through the current step only.
"""

import math
from collections.abc import Sequence
from typing import Final

import torch
from e3nn import o3
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

#: Nodes kept of each step: a fixed number, so that the state is a tensor that a checkpoint can hold.
_NODES: Final = 256
#: Hidden units of the perceptron.
_WIDTH: Final = 32
#: Size of the state.
_STATE: Final = 8
#: Random rotations over which an invariant mean is estimated.
_ROTATIONS: Final = 4
#: Added to a root mean square before a division.
_EPSILON: Final = 1e-6


class SymmetryProbe(nn.Module):
    """State h of one layer and the network u that drives it; features flat in e3nn's layout."""

    state: Tensor
    pending: Tensor
    features: Tensor
    counter: Tensor

    def __init__(self, inputs: Sequence[o3.Irreps], outputs: Sequence[o3.Irreps]) -> None:
        super().__init__()
        self.inputs, self.outputs = list(inputs), list(outputs)
        self.irreps = o3.Irreps([entry for part in (*inputs, *outputs) for entry in part])
        self.u = nn.Sequential(
            spectral_norm(nn.Linear(self.irreps.dim, _WIDTH)),
            nn.GELU(),
            spectral_norm(nn.Linear(_WIDTH, _STATE)),
        )
        self.lam, self.kappa = 1e-2, 4.0
        self.register_buffer("state", torch.zeros(_STATE))
        self.register_buffer("pending", torch.zeros(_STATE), persistent=False)
        self.register_buffer("features", torch.zeros(_NODES, self.irreps.dim))
        self.register_buffer("counter", torch.zeros((), dtype=torch.int64))
        self._rows: Tensor | None = None
        self._seen: dict[str, Tensor] = {}

    def set_level(self, level: float) -> None:
        """Start at beta = ``level``."""
        self.state.fill_(math.atanh(level) / math.sqrt(_STATE))

    def _flat(self, entry: Tensor) -> Float[Tensor, "node feature"]:
        """Real nodes of one entry, at unit RMS, in e3nn's layout."""
        rows = entry.reshape(-1, *entry.shape[-2:])[self._rows].float()
        return (rows / (rows.square().mean().sqrt() + _EPSILON)).transpose(-1, -2).flatten(-2)

    @torch.no_grad()
    def see_inputs(self, inputs: Sequence[Tensor], mask: Tensor) -> None:
        """Take the inputs of this step; they are read at the next."""
        real = mask.reshape(-1).nonzero()[:, 0]
        self._rows = real[torch.linspace(0, len(real) - 1, _NODES, device=real.device).long()]
        self._seen = {f"in{i}": self._flat(z) for i, z in enumerate(inputs)}

    @torch.no_grad()
    def see_output(self, name: str, delta: Tensor) -> None:
        """Take -dL/dy of the entry that the block ``name`` writes."""
        self._seen[name.split(">")[1].split()[0]] = self._flat(delta)

    def level(self) -> Float[Tensor, ""]:
        """Beta = tanh |h| after this step's signal; the gradient reaches u through this step alone."""
        features = self.features
        with torch.no_grad():
            rng = torch.Generator().manual_seed(int(self.counter))
            quaternions = torch.randn(_ROTATIONS, 4, generator=rng)
            angles = o3.quaternion_to_angles(nn.functional.normalize(quaternions, dim=-1))
            rotations = self.irreps.D_from_angles(*angles).to(features)
            rotated = torch.einsum("kij,nj->kni", rotations, features)
        gap = (self.u(features) - self.u(rotated).mean(0)).mean(0)
        h = (1.0 - self.lam) * self.state + self.lam * self.kappa * gap
        self.pending = h.detach()
        return torch.tanh((h.square().sum() + 1e-12).sqrt())

    @torch.no_grad()
    def commit(self) -> Float[Tensor, ""]:
        """Keep this step's state and features; returns the level."""
        self.state.copy_(self.pending)
        parts = [self._seen[f"in{i}"] for i in range(len(self.inputs))]
        parts += [self._seen.get(str(entry[0].ir), self._flat_zero(entry)) for entry in self.outputs]
        self.features.copy_(torch.cat(parts, dim=-1))
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.broadcast(self.features, 0)  # every process must come to the same level
        self.counter += 1
        return torch.tanh(self.state.norm())

    def _flat_zero(self, entry: o3.Irreps) -> Tensor:
        return self.features.new_zeros(_NODES, entry.dim)
