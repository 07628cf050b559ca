"""The Haar mean of a linear map between irreps, in closed form.

P(W) = mean over g of rho_out(g)^-1 W rho_in(g). With real orthonormal irreps in the same basis on both sides,
Schur's lemma gives T (x) 1 between entries of one l, T_ij = (1/(2l+1)) sum_a W_(ia),(ja), and zero otherwise;
over O(3) it is zero between entries of different parity as well (Serre 1977, Linear Representations of Finite
Groups, section 2.2).
"""

from typing import Final

import torch
from e3nn import o3
from jaxtyping import Float
from torch import Tensor

#: Groups over which a block is projected.
GROUPS: Final = ("so3", "o3")


def is_coupled(source: o3.Irrep, target: o3.Irrep, group: str) -> bool:
    """Whether an equivariant linear map between two irreps exists."""
    return bool(source.l == target.l and (group == "so3" or source.p == target.p))


def haar_mean(
    weight: Float[Tensor, "out in"], source: o3.Irreps, target: o3.Irreps, *, group: str = "so3"
) -> Float[Tensor, "out in"]:
    """P(W) of a dense matrix between two irreps in e3nn's flat layout (entries of mul x (2l+1)).

    An irrep listed twice is two entries; maps between them are kept.
    """
    mean = torch.zeros_like(weight)
    for out, rows in zip(target, target.slices(), strict=True):
        for entry, columns in zip(source, source.slices(), strict=True):
            if is_coupled(entry.ir, out.ir, group):
                d = entry.ir.dim
                part = weight[rows, columns].view(out.mul, d, entry.mul, d)
                coupling = torch.einsum("iaja->ij", part) / d
                mean[rows, columns] = torch.kron(coupling, torch.eye(d, dtype=weight.dtype, device=weight.device))
    return mean
