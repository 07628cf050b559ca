"""What a backbone is, and the settings all backbones share."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor, nn

from conformergen.errors import InputError
from conformergen.nn.relaxation import RELAXATION_MODES, RelaxationSettings, RelaxedBranch
from conformergen.records.batch import GraphBatch


@dataclass(frozen=True, kw_only=True)
class NetworkSettings:
    """Size and kind of the network.

    Attributes:
        backbone: Entry of ``BACKBONES``.
        channels: Scalars (0e) and vectors (1o) of each atom.
        odd_channels: Parity-odd channels (0o and 1e) of each atom.
        heads: Attention heads of ``headwise``.
        layers: Depth.
        n_radial: Radial basis functions.
        cutoff: Edge cut-off of ``tensor-product``, Å.
        torsions: Whether ``headwise`` rotates bonds besides moving atoms.
        relaxation: Loosening of the layers' symmetry constraints.
    """

    backbone: str = "headwise"
    channels: int = 64
    odd_channels: int = 16
    heads: int = 8
    layers: int = 4
    n_radial: int = 24
    cutoff: float = 5.0
    torsions: bool = False
    relaxation: RelaxationSettings = field(default_factory=RelaxationSettings)

    def __post_init__(self) -> None:
        if self.relaxation.mode not in RELAXATION_MODES:
            raise InputError(f"relaxation {self.relaxation.mode!r} is not one of {', '.join(RELAXATION_MODES)}")
        if min(self.channels, self.odd_channels, self.heads, self.layers, self.n_radial) < 1 or self.cutoff <= 0:
            raise InputError("network: sizes and cutoff must be positive")
        if self.channels % self.heads or self.odd_channels % self.heads:
            raise InputError("network: heads must divide channels and odd_channels")
        if self.torsions and self.backbone != "headwise":
            raise InputError("network: torsions need the backbone headwise")


class Backbone(nn.Module, ABC):
    """E(3)-equivariant map from positions to one vector for each atom, up to its relaxed branches."""

    settings: NetworkSettings

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__()
        self.settings = settings

    @abstractmethod
    def forward(
        self, graph: GraphBatch, positions: Float[Tensor, "batch atom 3"], noise: Float[Tensor, " batch"]
    ) -> Float[Tensor, "batch atom 3"]:
        """Displacement, zero on padding.

        Args:
            graph: Padded graphs.
            positions: Å.
            noise: Conditioning value of each graph, about -2 to 2.
        """

    def branches(self) -> list[RelaxedBranch]:
        """Relaxed branches in depth order; empty in mode ``none`` and after an exact export."""
        return [module for module in self.modules() if isinstance(module, RelaxedBranch)]
