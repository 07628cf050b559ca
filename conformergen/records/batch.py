"""A padded batch of molecular graphs as tensors. Kept apart from ``records`` so that workers need no torch."""

from dataclasses import dataclass, fields

from jaxtyping import Bool, Float, Int64
from torch import Tensor, device


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class GraphBatch:
    """Graphs padded to the largest of the batch.

    Attributes:
        atomic_numbers: 0 on padding.
        atom_features: Codes, columns as ``records.ATOM_FEATURES``.
        mask: True on real atoms.
        bond_types: 0 without a bond, else 1, 2, 3, 4 (aromatic).
        hops: Bonds on the shortest path.
        relations: 0, 1 cis or 2 trans across a stereo double bond.
        handedness: Requested sign of the signed volume at a stereocentre, 0 elsewhere; a pseudoscalar.
        centre_neighbours: Four neighbours in canonical order; the atom itself, four times, elsewhere.
        rotatable_bonds: Ends of the rotatable bonds; atom 0 twice on padding.
        moving_atoms: Atoms that move with the second end, without it.
    """

    atomic_numbers: Int64[Tensor, "batch atom"]
    atom_features: Int64[Tensor, "batch atom feature"]
    mask: Bool[Tensor, "batch atom"]
    bond_types: Int64[Tensor, "batch atom atom"]
    hops: Int64[Tensor, "batch atom atom"]
    relations: Int64[Tensor, "batch atom atom"]
    handedness: Float[Tensor, "batch atom"]
    centre_neighbours: Int64[Tensor, "batch atom 4"]
    rotatable_bonds: Int64[Tensor, "batch rotatable 2"]
    moving_atoms: Bool[Tensor, "batch rotatable atom"]

    def to(self, target: "device | str") -> "GraphBatch":
        """Copy to a device."""
        return GraphBatch(**{f.name: getattr(self, f.name).to(target, non_blocking=True) for f in fields(self)})

    @property
    def n_atoms(self) -> Int64[Tensor, " batch"]:
        """Real atoms of each graph."""
        return self.mask.sum(dim=1)
