"""The unconstrained branch of a relaxed layer: linear maps between irreps, less what is equivariant already.

W_perp = W - P(W) with the Haar mean P of ``projection``; at unit gain white input gives RMS 1. W = A B has low
rank and is never formed, or is dense at rank 0. RECM-style, after the abstract of arXiv 2602.02853; the
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
    """W of one (input irrep > output irrep) block; (..., 2l+1, mul_in) to (..., 2l'+1, mul_out)."""

    def __init__(self, source: o3.Irreps, target: o3.Irreps, *, rank: int, form: BranchForm | None = None) -> None:
        super().__init__()
        form = form or BranchForm()
        (self.mul_in, ir_in), (self.mul_out, ir_out) = source[0], target[0]
        self.d_in, self.d_out = ir_in.dim, ir_out.dim
        self.unit = form.kind == "unit"
        self.projects = form.kind != "raw" and is_coupled(ir_in, ir_out, "so3")
        if is_coupled(ir_in, ir_out, "so3") and self.d_in == 1:
            raise ValueError("the complement of a scalar-to-scalar block is empty")
        self.name = f"{ir_in}>{ir_out}"
        fan_in = self.d_in * self.mul_in
        self.dense = rank == 0
        if self.dense:
            self.w = nn.Parameter(torch.randn(self.d_out * self.mul_out, fan_in) / fan_in**0.5 * form.weight_scale)
        else:
            self.a = nn.Parameter(torch.randn(rank, self.d_out, self.mul_out) / rank**0.5 * form.weight_scale)
            self.b = nn.Parameter(torch.randn(rank, self.d_in, self.mul_in) / fan_in**0.5)

    def equivariant_part(self) -> Float[Tensor, "out in"]:
        """T of the Haar mean P(W) = T (x) 1."""
        if self.dense:
            return torch.einsum("aiaj->ij", self.w.view(self.d_out, self.mul_out, self.d_in, self.mul_in)) / self.d_in
        return torch.einsum("rao,rai->oi", self.a, self.b) / self.d_in

    def squared_norm(self, removed: Float[Tensor, "out in"] | None = None) -> Float[Tensor, ""]:
        """Squared Frobenius norm of the block, from r x r Gram matrices; ``removed`` is T where it is known."""
        if self.dense:
            norm = self.w.square().sum()
        else:
            a, b = self.a.flatten(1), self.b.flatten(1)
            norm = ((a @ a.T) * (b @ b.T)).sum()
        if not self.projects:
            return norm
        return norm - self.d_in * (self.equivariant_part() if removed is None else removed).square().sum()

    def matrix(self) -> Float[Tensor, "out in"]:
        """The block as a dense matrix, rows and columns flattened as (2l+1, channel)."""
        w = self.w if self.dense else self.a.flatten(1).T @ self.b.flatten(1)
        if self.projects:
            w = w - torch.kron(torch.eye(self.d_in, dtype=w.dtype), self.equivariant_part())
        return w * self._gain(None) if self.unit else w

    def _gain(self, removed: Float[Tensor, "out in"] | None) -> Float[Tensor, ""]:
        """Factor that gives the block unit gain."""
        return (self.d_out * self.mul_out / self.squared_norm(removed).clamp(min=TINY)).sqrt()

    def forward(self, z: Float[Tensor, "*node d_in mul_in"]) -> Float[Tensor, "*node d_out mul_out"]:
        """Apply the block."""
        removed = self.equivariant_part() if self.projects else None
        gain = self._gain(removed) if self.unit else 1.0
        flat = z.flatten(-2)
        if self.dense:
            out = flat @ (self.w * gain).T
        else:
            out = (flat @ self.b.flatten(1).T) @ (self.a.flatten(1) * gain)
        out = out.unflatten(-1, (self.d_out, self.mul_out))
        return out if removed is None else out - z @ (removed * gain).T


class ParityBlock(nn.Module):
    """T (x) 1 between irreps of one l and different parity: turns correctly, errs in sign under reflection."""

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
