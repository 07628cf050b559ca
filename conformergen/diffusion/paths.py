"""How noise and data mix. Both paths predict denoised coordinates and share one ODE.

With the noise level u, which falls to 0 at the data, every path obeys dx/du = (x - D(x, u)) / u, so that samplers are
written once.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Final, final

import torch
from jaxtyping import Float
from torch import Tensor

Positions = Float[Tensor, "batch atom 3"]
Levels = Float[Tensor, " batch"]


def _wide(noise_level: Levels) -> Float[Tensor, "batch 1 1"]:
    return noise_level[:, None, None]


class Path(ABC):
    """Mixture of prior and data at a noise level u.

    Args:
        sigma: Scale of the prior's noise, Å.
        sigma_data: Spread of the data around the anchor, Å (EDM only).
    """

    def __init__(self, *, sigma: float, sigma_data: float) -> None:
        self.sigma = sigma
        self.sigma_data = sigma_data

    @abstractmethod
    def draw(self, uniform: Levels) -> Levels:
        """Noise levels for training, from uniform random numbers in (0, 1)."""

    @abstractmethod
    def noise_levels(self, n_steps: int) -> Float[Tensor, " n_levels"]:
        """``n_steps + 1`` noise levels for sampling in falling order; the last one is 0."""

    @abstractmethod
    def mix(self, anchor: Positions, noise: Positions, data: Positions, noise_level: Levels) -> Positions:
        """The mixture x at a noise level."""

    @abstractmethod
    def coefficients(self, noise_level: Levels) -> tuple[Levels, Levels, Levels]:
        """c_skip, c_out and the conditioning value c_noise of D = c_skip x + c_out F(x, c_noise)."""

    @abstractmethod
    def noise_scale(self, noise_level: float) -> float:
        """Standard deviation of the noise at a noise level, Å, which a stochastic sampler adds back."""

    def start(self, anchor: Positions, noise: Positions) -> Positions:
        """The mixture x at the first noise level of sampling."""
        return anchor + self.sigma * noise

    def weight(self, noise_level: Levels) -> Levels:
        """Loss weight 1 / c_out^2: unit weight on the network's own output."""
        return self.coefficients(noise_level)[1].clamp(min=1e-2).reciprocal().square()


@final
class LinearPath(Path):
    """Linear interpolant, flow matching (Lipman et al. 2023, arXiv 2210.02747): x = (1-u) data + u (anchor + noise)."""

    def draw(self, uniform: Levels) -> Levels:
        """Uniform in (0, 1]."""
        return uniform.clamp(min=1e-3)

    def noise_levels(self, n_steps: int) -> Float[Tensor, " n_levels"]:
        """Even steps from 1 to 0."""
        return torch.linspace(1.0, 0.0, n_steps + 1)

    def mix(self, anchor: Positions, noise: Positions, data: Positions, noise_level: Levels) -> Positions:
        """Straight line from the prior sample to the data."""
        return (1.0 - _wide(noise_level)) * data + _wide(noise_level) * self.start(anchor, noise)

    def coefficients(self, noise_level: Levels) -> tuple[Levels, Levels, Levels]:
        """The network's target is the velocity data - prior sample."""
        return torch.ones_like(noise_level), noise_level, 4.0 * noise_level - 2.0

    def noise_scale(self, noise_level: float) -> float:
        """Linear in the noise level."""
        return self.sigma * noise_level


@final
class EDMPath(Path):
    """Variance-exploding diffusion with EDM's preconditioning (Karras et al. 2022, arXiv 2206.00364, table 1).

    Coordinates reach the network unscaled, in Å: distances enter through bounded radial functions, which take
    the place of c_in.
    """

    RHO: Final = 7.0
    SIGMA_MIN: Final = 0.002

    def draw(self, uniform: Levels) -> Levels:
        """Karras's sampling schedule at a uniform time."""
        low, high = self.SIGMA_MIN ** (1 / self.RHO), self.sigma ** (1 / self.RHO)
        return (high + (1.0 - uniform) * (low - high)) ** self.RHO

    def noise_levels(self, n_steps: int) -> Float[Tensor, " n_levels"]:
        """Karras's schedule (eq. 5), then 0."""
        last = torch.zeros(1)
        return (
            torch.cat([self.draw(torch.linspace(1.0, 0.0, n_steps)), last])
            if n_steps > 1
            else torch.cat([torch.tensor([self.sigma]), last])
        )

    def mix(self, anchor: Positions, noise: Positions, data: Positions, noise_level: Levels) -> Positions:
        """Data plus noise; a seed anchor takes part only at the start of sampling."""
        del anchor
        return data + _wide(noise_level) * noise

    def coefficients(self, noise_level: Levels) -> tuple[Levels, Levels, Levels]:
        """Table 1 of the paper."""
        total = noise_level.square() + self.sigma_data**2
        return self.sigma_data**2 / total, noise_level * self.sigma_data / total.sqrt(), noise_level.log() / 4.0

    def noise_scale(self, noise_level: float) -> float:
        """The noise level is the standard deviation."""
        return noise_level


#: Paths by name.
PATHS: Final[Mapping[str, type[Path]]] = {"linear": LinearPath, "edm": EDMPath}
