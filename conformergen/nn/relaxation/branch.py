"""The unconstrained branch of a relaxed layer: linear maps between irreps, less what is equivariant already.

W_perp = W - P(W) with the Haar mean P of ``projection``; at unit gain white input gives RMS 1. ``LinearBlock``
has the parametrisations of W. RECM-style, after the abstract of arXiv 2602.02853; the
construction is our completion (``docs/relaxation.md``).

Features are kept as (..., 2l+1, channel).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from e3nn import o3
from jaxtyping import Float
from torch import Tensor, nn

from conformergen.nn.relaxation.probe import SymmetryProbe
from conformergen.nn.relaxation.projection import is_coupled

#: Lower bound of denominators.
TINY: Final = 1e-12
#: The scale s of a block is kept within these bounds.
SCALE_BOUNDS: Final = (1e-3, 1e3)
#: Smallest RMS of a branch output from which the scale is learnt.
SCALE_FLOOR: Final = 1e-6
#: Rate of the scale's average.
SCALE_RATE: Final = 0.01


@dataclass(frozen=True, kw_only=True)
class BranchForm:
    """What a mode makes of the branch; the parameters are the same in each.

    Attributes:
        kind: ``unit``: complement at unit gain times the scale of f; ``projected``: complement as it is;
            ``raw``: W itself, equivariant part included.
        beta: Initial level.
        trained_level: Whether beta is a parameter, trained by gradient.
        memory: Initial values of what the mode remembers for each block.
        weight_scale: Size of the initial W; the output factor alone is shrunk, so that the other can learn.
        keeps_inputs: Whether the newest inputs are kept for a penalty.
        probe: Whether the level comes from a ``SymmetryProbe``.
    """

    kind: str = "unit"
    beta: float = 1.0
    trained_level: bool = False
    memory: tuple[float, ...] = ()
    weight_scale: float = 1.0
    keeps_inputs: bool = False
    probe: bool = False


class LinearBlock(nn.Module):
    """W of one (input irrep > output irrep) block; (..., 2l+1, mul_in) to (..., 2l'+1, mul_out).

    Three parametrisations, none of which forms W unless it is dense:

    * rank 0: a dense W, less T (x) 1 where l is the same;
    * different l: W = A B;
    * the same l: W = sum_r a_r (x) S_r (x) b_r with one (2l+1, 2l+1) matrix S_r for each component. Taking the trace
      out of S_r takes the Haar mean out of W, at no cost that grows with the number of nodes.
    """

    def __init__(self, source: o3.Irreps, target: o3.Irreps, *, rank: int, form: BranchForm | None = None) -> None:
        super().__init__()
        form = form or BranchForm()
        (self.mul_in, ir_in), (self.mul_out, ir_out) = source[0], target[0]
        self.d_in, self.d_out = ir_in.dim, ir_out.dim
        self.same_l = is_coupled(ir_in, ir_out, "so3")
        if self.same_l and self.d_in == 1:
            raise ValueError("the complement of a scalar-to-scalar block is empty")
        self.unit, self.projects = form.kind == "unit", form.kind != "raw" and self.same_l
        self.name = f"{ir_in}>{ir_out}"
        self.dense = rank == 0
        fan_in = self.d_in * self.mul_in
        size = form.weight_scale

        def normal(*shape: int, variance: float) -> nn.Parameter:
            return nn.Parameter(torch.randn(*shape) * variance**0.5)

        if self.dense:
            self.w = normal(self.d_out * self.mul_out, fan_in, variance=size**2 / fan_in)
        elif self.same_l:
            self.a = normal(rank, self.mul_out, variance=size**2 / rank)
            self.s = normal(rank, self.d_in, self.d_in, variance=1 / self.d_in)
            self.b = normal(rank, self.mul_in, variance=1 / self.mul_in)
        else:
            self.a = normal(rank, self.d_out * self.mul_out, variance=size**2 / rank)
            self.b = normal(rank, fan_in, variance=1 / fan_in)

    def _weight(self) -> Float[Tensor, "out in"]:
        """Dense W after projection; only for rank 0."""
        if not self.projects:
            return self.w
        parts = self.w.view(self.d_out, self.mul_out, self.d_in, self.mul_in)
        mean = torch.einsum("aiaj->ij", parts) / self.d_in
        return self.w - torch.kron(torch.eye(self.d_in, dtype=self.w.dtype, device=self.w.device), mean)

    def _rotation_factors(self) -> Float[Tensor, "rank d d"]:
        """S_r after projection; only for factors of one l."""
        if not self.projects:
            return self.s
        trace = self.s.diagonal(dim1=-2, dim2=-1).mean(-1)
        return self.s - trace[:, None, None] * torch.eye(self.d_in, dtype=self.s.dtype, device=self.s.device)

    def squared_norm(self) -> Float[Tensor, ""]:
        """Squared Frobenius norm of the block, from rank x rank Gram matrices."""
        if self.dense:
            return self._weight().square().sum()
        gram = (self.a @ self.a.T) * (self.b @ self.b.T)
        if self.same_l:
            factors = self._rotation_factors().flatten(1)
            gram = gram * (factors @ factors.T)
        return gram.sum()

    def matrix(self) -> Float[Tensor, "out in"]:
        """The block as a dense matrix, rows and columns flattened as (2l+1, channel)."""
        columns = torch.eye(self.d_in * self.mul_in, dtype=next(self.parameters()).dtype)
        return self(columns.unflatten(-1, (self.d_in, self.mul_in))).flatten(1).T

    def forward(self, z: Float[Tensor, "*node d_in mul_in"]) -> Float[Tensor, "*node d_out mul_out"]:
        """Apply the block."""
        gain = 1.0
        if self.unit:
            gain = (self.d_out * self.mul_out / self.squared_norm().clamp(min=TINY)).sqrt()
        if self.same_l and not self.dense:
            rotated = torch.einsum("rac,ro->crao", self._rotation_factors(), self.a * gain)
            out = (z @ self.b.T).flatten(-2) @ rotated.flatten(2).flatten(0, 1)
        elif self.dense:
            out = z.flatten(-2) @ (self._weight() * gain).T
        else:
            out = (z.flatten(-2) @ self.b.T) @ (self.a * gain)
        return out.unflatten(-1, (self.d_out, self.mul_out))


class ParityBlock(nn.Module):
    """T (x) 1 between irreps of one l and different parity: rotates correctly, errs in sign under reflection."""

    def __init__(self, source: o3.Irreps, target: o3.Irreps, *, form: BranchForm) -> None:
        super().__init__()
        (mul_in, ir_in), (self.mul_out, ir_out) = source[0], target[0]
        self.name = f"{ir_in}>{ir_out} parity"
        self.unit = form.kind == "unit"
        self.t = nn.Parameter(torch.randn(self.mul_out, mul_in) / mul_in**0.5 * form.weight_scale)

    def squared_norm(self) -> Float[Tensor, ""]:
        """Squared Frobenius norm of T."""
        return self.t.square().sum()

    def forward(self, z: Float[Tensor, "*node d mul_in"]) -> Float[Tensor, "*node d mul_out"]:
        """Apply T to each component."""
        gain = (self.mul_out / self.squared_norm().clamp(min=TINY)).sqrt() if self.unit else 1.0
        return z @ (self.t * gain).T


class _Tap(torch.autograd.Function):
    """Identity on y whose backward pass adds <delta, u> and |delta|^2 to the rows of ``sums``, in float32.

    delta = -dL/dy. The sums that need no gradient, |u|^2 and |f|^2, are added in the forward pass of the branch.
    """

    @staticmethod
    def forward(ctx: object, y: Tensor, branch: "RelaxedBranch", rows: list[int], *outputs: Tensor) -> Tensor:
        ctx.save_for_backward(*outputs)  # type: ignore[attr-defined]
        ctx.branch, ctx.rows = branch, rows  # type: ignore[attr-defined]
        return y.view_as(y)

    @staticmethod
    def backward(ctx: object, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        branch: RelaxedBranch = ctx.branch  # type: ignore[attr-defined]
        delta = gradient.detach().float().reshape(-1)
        squared = torch.dot(delta, delta)
        for row, u in zip(ctx.rows, ctx.saved_tensors, strict=True):  # type: ignore[attr-defined]
            branch.sums[row, 0] -= torch.dot(delta, u.float().reshape(-1))
            branch.sums[row, 1] += squared
        if branch.probe is not None:
            branch.probe.see_output(branch.names[ctx.rows[0]], -gradient)  # type: ignore[attr-defined]
        return (gradient, None, None, *[None] * len(ctx.saved_tensors))  # type: ignore[attr-defined]


class RelaxedBranch(nn.Module):
    """All blocks of one layer, their levels ``beta`` and scales ``s``.

    y_out = f(x)_out + sum over blocks of beta_b s_b U_b(x_in). ``sums`` collects, over the micro-batches of one
    optimiser step, <delta, u>, |delta|^2, |u|^2 and |f|^2 for each block.

    Args:
        entries: Irreps of the layer's inputs and updates, one entry each.
        sources: Entries that are read.
        rank: Rank of each block; 0 for dense blocks.
        form: What the relaxation mode makes of the branch.
        group: ``so3``, or ``o3`` to add the parity blocks.
        keep_inversion: Build only blocks that commute with inversion.
    """

    beta: Tensor
    memory: Tensor
    scale: Tensor
    scale_set: Tensor
    sums: Tensor
    cosine: Tensor

    def __init__(
        self,
        entries: Sequence[o3.Irreps],
        *,
        sources: Sequence[int],
        rank: int,
        form: BranchForm,
        group: str = "so3",
        keep_inversion: bool = False,
    ) -> None:
        super().__init__()
        self.form = form
        self.ends: list[tuple[int, int]] = []
        self.blocks = nn.ModuleList()
        for target, out in enumerate(entries):
            for source in sources:
                ir_in, ir_out = entries[source][0].ir, out[0].ir
                if keep_inversion and ir_in.p != ir_out.p:
                    continue
                coupled = is_coupled(ir_in, ir_out, "so3")
                if not (coupled and ir_in.dim == 1):
                    self._add(LinearBlock(entries[source], out, rank=rank, form=form), source, target)
                if group == "o3" and coupled and ir_in.p != ir_out.p:
                    self._add(ParityBlock(entries[source], out, form=form), source, target)
        n = len(self.blocks)
        beta = torch.full((n,), float(form.beta))
        if form.trained_level:
            self.beta = nn.Parameter(beta)
        else:
            self.register_buffer("beta", beta)
        self.register_buffer("memory", torch.tensor(form.memory).repeat(n, 1))
        self.register_buffer("scale", torch.ones(n))
        self.register_buffer("scale_set", torch.zeros(n))
        self.register_buffer("sums", torch.zeros(n, 4), persistent=False)
        self.register_buffer("cosine", torch.zeros(n), persistent=False)
        self.inputs: dict[int, Tensor] = {}
        #: Set once every level is 0 for good: the branch is then not computed at all.
        self.closed = False
        self.probe: SymmetryProbe | None = None
        if form.probe:
            self.probe = SymmetryProbe([entries[i] for i in sources], entries)
            self.probe.set_level(form.beta)

    def _add(self, block: nn.Module, source: int, target: int) -> None:
        self.ends.append((source, target))
        self.blocks.append(block)

    @property
    def names(self) -> list[str]:
        """Names of the blocks, such as ``0e>1o``."""
        return [str(block.name) for block in self.blocks]

    @property
    def max_level(self) -> float:
        """Largest absolute level of the branch."""
        return float(self.beta.detach().abs().max())

    def squared_norm(self) -> Float[Tensor, ""]:
        """Sum of the squared norms of all blocks."""
        return torch.stack([block.squared_norm() for block in self.blocks]).sum()  # type: ignore[operator]

    def forward(
        self, inputs: Sequence[Tensor], updates: Sequence[Tensor], mask: Float[Tensor, "*node 1 1"]
    ) -> list[Tensor]:
        """Add the branch to the equivariant ``updates``; entries are (..., 2l+1, channel).

        Args:
            inputs: Normalised features, one for each entry.
            updates: f(x), one for each entry; padded nodes must not reach the loss.
            mask: 0 on padded nodes.
        """
        if self.closed:
            return list(updates)
        used = {source: inputs[source] * mask for source, _ in self.ends}
        measuring = self.training and torch.is_grad_enabled()
        if self.form.keeps_inputs and measuring:
            self.inputs = {source: z.detach() for source, z in used.items()}
        beta = self.beta
        if self.probe is not None and measuring:
            self.probe.see_inputs([z.detach() for z in used.values()], mask)
            beta = self.probe.level().expand(len(self.blocks))
        factors = beta * self.scale
        outputs = list(updates)
        rows: dict[int, list[int]] = {}
        values: list[Tensor] = []
        for row, ((source, target), block) in enumerate(zip(self.ends, self.blocks, strict=True)):
            u = block(used[source])
            values.append(u)
            outputs[target] = torch.addcmul(outputs[target], u, factors[row].to(u.dtype))
            rows.setdefault(target, []).append(row)
        if measuring:
            for target, of_target in rows.items():
                self._measure(updates[target].detach() * mask, of_target, [values[r].detach() for r in of_target])
                outputs[target] = _Tap.apply(  # type: ignore[no-untyped-call]
                    outputs[target], self, of_target, *[values[r].detach() for r in of_target]
                )
        return outputs

    @torch.no_grad()
    def _measure(self, update: Tensor, rows: list[int], values: list[Tensor]) -> None:
        size = torch.linalg.vector_norm(update.float()).square()
        for row, u in zip(rows, values, strict=True):
            self.sums[row, 2] += torch.linalg.vector_norm(u.float()).square()
            self.sums[row, 3] += size

    @torch.no_grad()
    def follow_scale(self, sums: Float[Tensor, "block 4"]) -> None:
        """Average RMS(f) / RMS(u) into the scales, so that beta is a ratio of amplitudes."""
        _, _, uu, ff = sums.unbind(1)
        ratio = (ff / uu.clamp(min=TINY)).sqrt().clamp(*SCALE_BOUNDS)
        usable = (uu > SCALE_FLOOR**2) & (ff > 0)
        first = usable & (self.scale_set == 0)
        moved = self.scale + SCALE_RATE * (ratio - self.scale)
        self.scale.copy_(torch.where(first, ratio, torch.where(usable, moved, self.scale)))
        self.scale_set.copy_(torch.maximum(self.scale_set, usable.float()))
