"""The noise process: prior, path and loss, each by name, kept apart. Network and samplers are elsewhere."""

from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from conformergen.diffusion.losses import LOSSES, Loss
from conformergen.diffusion.paths import PATHS, Path
from conformergen.diffusion.priors import PRIORS, Prior
from conformergen.errors import InputError
from conformergen.records.batch import GraphBatch

__all__ = ["LOSSES", "PATHS", "PRIORS", "DiffusionSettings", "Loss", "Path", "Prior", "denoise"]

#: A backbone: displacement from (graph, positions, conditioning value).
Network = Callable[[GraphBatch, Tensor, Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class DiffusionSettings:
    """Noise process of one model; at inference it comes from the checkpoint only.

    Attributes:
        prior: Entry of ``PRIORS``.
        path: Entry of ``PATHS``.
        loss: Entry of ``LOSSES``.
        sigma: Scale of the prior's noise, Å.
        sigma_data: Spread of the data, Å; used by the EDM path.
    """

    prior: str = "seed"
    path: str = "linear"
    loss: str = "robust"
    sigma: float = 0.05
    sigma_data: float = 2.0

    def __post_init__(self) -> None:
        for name, known in (("prior", PRIORS), ("path", PATHS), ("loss", LOSSES)):
            if getattr(self, name) not in known:
                raise InputError(f"diffusion.{name} {getattr(self, name)!r} is not one of {', '.join(known)}")
        if self.sigma <= 0 or self.sigma_data <= 0:
            raise InputError("diffusion.sigma and sigma_data must be positive")

    def make_path(self) -> Path:
        """The path of these settings."""
        return PATHS[self.path](sigma=self.sigma, sigma_data=self.sigma_data)


def denoise(
    network: Network,
    path: Path,
    graph: GraphBatch,
    x: Float[Tensor, "batch atom 3"],
    noise_level: Float[Tensor, " batch"],
) -> Float[Tensor, "batch atom 3"]:
    """Denoised coordinates D = c_skip x + c_out F(x, c_noise), Å."""
    c_skip, c_out, c_noise = path.coefficients(noise_level)
    return c_skip[:, None, None] * x + c_out[:, None, None] * network(graph, x, c_noise)
