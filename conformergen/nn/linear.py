"""e3nn's equivariant linear maps on channel-last features.

e3nn keeps an entry of irreps as (mul, 2l+1) flattened; the dense network keeps (..., 2l+1, channel), where a
linear map is one GEMM. Weights, normalisation and bookkeeping are ``o3.Linear``'s.
"""

from e3nn import o3
from jaxtyping import Float
from torch import Tensor, cat, nn


class ChannelLinear(nn.Module):
    """``o3.Linear`` between two entries of one irrep, applied to (..., 2l+1, channel); no bias."""

    def __init__(self, irrep: str, mul_in: int, mul_out: int, *, gain: float = 1.0) -> None:
        super().__init__()
        self.linear = o3.Linear(f"{mul_in}x{irrep}", f"{mul_out}x{irrep}")
        self.linear.weight.data.mul_(gain)
        self.shape = (mul_in, mul_out)
        self.path_weight = float(self.linear.instructions[0].path_weight)

    def forward(self, x: Float[Tensor, "*node dim mul_in"]) -> Float[Tensor, "*node dim mul_out"]:
        """Mix channels."""
        return x @ (self.linear.weight.view(self.shape) * self.path_weight)


def bounded_scalars(p: Float[Tensor, "*node mul"]) -> Float[Tensor, "*node mul"]:
    """Root mean square over channels held below one; small values stay as they are."""
    return p / (p.square().mean(-1, keepdim=True) + 1.0).sqrt()


def bounded_vectors(v: Float[Tensor, "*node dim mul"]) -> Float[Tensor, "*node dim mul"]:
    """As ``bounded_scalars``, of lengths."""
    return v / (v.square().sum(-2, keepdim=True).mean(-1, keepdim=True) + 1.0).sqrt()


def to_flat(*entries: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Channel-last entries (..., 2l+1, mul) to e3nn's flat layout."""
    return cat([entry.transpose(-1, -2).flatten(-2) for entry in entries], dim=-1)


def from_flat(flat: Float[Tensor, "..."], irreps: o3.Irreps) -> list[Float[Tensor, "..."]]:
    """e3nn's flat layout to channel-last entries (..., 2l+1, mul)."""
    slices = zip(irreps, irreps.slices(), strict=True)
    return [flat[..., part].unflatten(-1, (entry.mul, entry.ir.dim)).transpose(-1, -2) for entry, part in slices]
