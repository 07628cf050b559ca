"""The unconstrained branch of a relaxed layer: Haar complements of linear maps between irreps.

For in and out types of one l (real orthonormal irreps in the same basis), Schur's lemma gives the group mean of
rho_out(g)^-1 W rho_in(g) over SO(3) as T (x) 1 with T_ij = (1/(2l+1)) sum_a W_(ia),(ja), and zero for different
l. The branch is U = W - P(W), at unit gain: white input gives RMS 1. W = A B has low rank and is never
formed. RECM-style, after the abstract of arXiv 2602.02853; the construction is our completion.

Features are kept as (..., 2l+1, channel).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from e3nn import o3
from jaxtyping import Float
from torch import Tensor, nn

TINY: Final = 1e-12
#: The scale s of a block is kept within these bounds.
SCALE_BOUNDS: Final = (1e-3, 1e3)
#: Smallest RMS of a branch output from which the scale is learnt.
SCALE_FLOOR: Final = 1e-6


@dataclass(frozen=True, kw_only=True)
class BlockSpec:
    """One (input irrep > output irrep) block: positions in the lists of entries of a layer."""

    source: int
    target: int


class HaarComplement(nn.Module):
    """U of one block, low-rank; (..., 2l+1, mul_in) to (..., 2l'+1, mul_out)."""

    def __init__(self, source: o3.Irreps, target: o3.Irreps, *, rank: int) -> None:
        super().__init__()
        (self.mul_in, ir_in), (self.mul_out, ir_out) = source[0], target[0]
        self.d_in, self.d_out = ir_in.dim, ir_out.dim
        self.same_l = ir_in.l == ir_out.l
        if self.same_l and self.d_in == 1:
            raise ValueError("the complement of a scalar-to-scalar block is empty")
        self.name = f"{ir_in}>{ir_out}"
        self.a = nn.Parameter(torch.randn(rank, self.d_out, self.mul_out) / rank**0.5)
        self.b = nn.Parameter(torch.randn(rank, self.d_in, self.mul_in) / (self.d_in * self.mul_in) ** 0.5)

    def equivariant_part(self) -> Float[Tensor, "out in"]:
        """T of the projection P(W) = T (x) 1."""
        return torch.einsum("rao,rai->oi", self.a, self.b) / self.d_in

    def squared_norm(self) -> Float[Tensor, ""]:
        """Squared Frobenius norm of the complement, from r x r Gram matrices."""
        a, b = self.a.flatten(1), self.b.flatten(1)
        norm = ((a @ a.T) * (b @ b.T)).sum()
        return norm - self.d_in * self.equivariant_part().square().sum() if self.same_l else norm

    def matrix(self) -> Float[Tensor, "out in"]:
        """Dense complement at unit gain, rows and columns flattened as (2l+1, channel)."""
        w = self.a.flatten(1).T @ self.b.flatten(1)
        if self.same_l:
            w = w - torch.kron(torch.eye(self.d_in, dtype=w.dtype), self.equivariant_part())
        return w * self.gain()

    def gain(self) -> Float[Tensor, ""]:
        """Factor that gives the complement unit gain."""
        return (self.d_out * self.mul_out / self.squared_norm().clamp(min=TINY)).sqrt()

    def forward(self, z: Float[Tensor, "*node d_in mul_in"]) -> Float[Tensor, "*node d_out mul_out"]:
        """Apply U."""
        gain = self.gain()
        hidden = z.flatten(-2) @ self.b.flatten(1).T
        out = (hidden @ (self.a.flatten(1) * gain)).unflatten(-1, (self.d_out, self.mul_out))
        return out - z @ (self.equivariant_part() * gain).T if self.same_l else out


class _Tap(torch.autograd.Function):
    """Identity on y whose backward pass adds <delta, u> and |delta|^2 to the rows of ``sums``, in float32.

    delta = -dL/dy. The sums that need no gradient, |u|^2 and |f|^2, are added in the forward pass of the branch.
    """

    @staticmethod
    def forward(ctx: object, y: Tensor, sums: list[Tensor], *branches: Tensor) -> Tensor:
        ctx.save_for_backward(*branches)  # type: ignore[attr-defined]
        ctx.sums = sums  # type: ignore[attr-defined]
        return y.view_as(y)

    @staticmethod
    def backward(ctx: object, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        delta = -gradient.detach().float()
        squared = delta.square().sum()
        for row, u in zip(ctx.sums, ctx.saved_tensors, strict=True):  # type: ignore[attr-defined]
            row[0] += (delta * u.float()).sum()
            row[1] += squared
        return (gradient, None, *[None] * len(ctx.saved_tensors))  # type: ignore[attr-defined]


class RelaxedBranch(nn.Module):
    """All blocks of one layer, their levels ``beta`` and scales ``s``.

    y_out = f(x)_out + sum over blocks of beta_b s_b U_b(x_in). ``sums`` collects, over the micro-batches of one
    optimiser step, <delta, u>, |delta|^2, |u|^2 and |f|^2 for each block.
    """

    beta: Tensor
    state: Tensor
    scale: Tensor
    scale_set: Tensor
    sums: Tensor

    def __init__(
        self, entries: Sequence[o3.Irreps], *, sources: Sequence[int], rank: int, state: float, beta: float
    ) -> None:
        super().__init__()
        self.specs: list[BlockSpec] = []
        self.complements = nn.ModuleList()
        for target, out in enumerate(entries):
            for source in sources:
                if entries[source][0].ir.l == 0 and out[0].ir.l == 0:
                    continue
                self.specs.append(BlockSpec(source=source, target=target))
                self.complements.append(HaarComplement(entries[source], out, rank=rank))
        n = len(self.specs)
        self.register_buffer("beta", torch.full((n,), float(beta)))
        self.register_buffer("state", torch.full((n,), float(state)))
        self.register_buffer("scale", torch.ones(n))
        self.register_buffer("scale_set", torch.zeros(n))
        self.register_buffer("sums", torch.zeros(n, 4), persistent=False)

    @property
    def names(self) -> list[str]:
        """Names of the blocks, such as ``0e>1o``."""
        return [str(c.name) for c in self.complements]

    def forward(
        self, inputs: Sequence[Tensor], updates: Sequence[Tensor], mask: Float[Tensor, "*node 1 1"]
    ) -> list[Tensor]:
        """Add the branch to the equivariant ``updates``; entries are (..., 2l+1, channel)."""
        outputs = list(updates)
        branches: dict[int, list[int]] = {}
        values: list[Tensor] = []
        for index, (spec, complement) in enumerate(zip(self.specs, self.complements, strict=True)):
            u = complement(inputs[spec.source]) * mask
            values.append(u)
            outputs[spec.target] = outputs[spec.target] + (self.beta[index] * self.scale[index]) * u
            branches.setdefault(spec.target, []).append(index)
        if self.training and torch.is_grad_enabled():
            for target, rows in branches.items():
                with torch.no_grad():
                    size = updates[target].detach().float().square().sum()
                    for row in rows:
                        self.sums[row, 2] += values[row].detach().float().square().sum()
                        self.sums[row, 3] += size
                tapped = [self.sums[row] for row in rows]
                outputs[target] = _Tap.apply(outputs[target], tapped, *[values[r].detach() for r in rows])  # type: ignore[no-untyped-call]
        return outputs
