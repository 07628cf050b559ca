"""Integrators of dx/du = (x - D(x, u)) / u. To add one: a function here and a line in ``SAMPLERS``."""

import itertools
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from jaxtyping import Float
from torch import Tensor

from conformergen.diffusion import Path

Positions = Float[Tensor, "batch atom 3"]
#: Denoised coordinates at a noise level.
Denoiser = Callable[[Tensor, float], Tensor]
#: Fresh centred standard normal numbers, one stream for each conformer.
Noise = Callable[[], Tensor]


class Sampler(Protocol):
    """Carry x from the first noise level to the data."""

    def __call__(
        self, denoiser: Denoiser, x: Positions, noise_levels: list[float], *, path: Path, noise: Noise
    ) -> Positions:
        """Integrate over ``noise_levels``, descending, the last 0."""
        ...


def euler(denoiser: Denoiser, x: Positions, noise_levels: list[float], *, path: Path, noise: Noise) -> Positions:
    """First order; one evaluation a step. The last step lands on the denoised coordinates."""
    del path, noise
    for noise_level, next_level in itertools.pairwise(noise_levels):
        denoised = denoiser(x, noise_level)
        x = denoised + (next_level / noise_level) * (x - denoised)
    return x


def heun(denoiser: Denoiser, x: Positions, noise_levels: list[float], *, path: Path, noise: Noise) -> Positions:
    """Second order (Karras et al. 2022, algorithm 1); two evaluations a step, one on the last."""
    del path, noise
    for noise_level, next_level in itertools.pairwise(noise_levels):
        slope = (x - denoiser(x, noise_level)) / noise_level
        predicted = x + (next_level - noise_level) * slope
        if next_level > 0:
            slope = 0.5 * (slope + (predicted - denoiser(predicted, next_level)) / next_level)
            predicted = x + (next_level - noise_level) * slope
        x = predicted
    return x


#: Fraction by which the stochastic sampler raises the noise level before each step.
_CHURN: Final = 0.2


def stochastic(denoiser: Denoiser, x: Positions, noise_levels: list[float], *, path: Path, noise: Noise) -> Positions:
    """Euler with churn (Karras et al. 2022, algorithm 2): noise added back before each step but the first."""
    top = noise_levels[0]
    for index, (noise_level, next_level) in enumerate(itertools.pairwise(noise_levels)):
        level_hat = min(noise_level * (1.0 + _CHURN), top) if index else noise_level
        extra = path.noise_scale(level_hat) ** 2 - path.noise_scale(noise_level) ** 2
        if extra > 0:
            x = x + extra**0.5 * noise()
        denoised = denoiser(x, level_hat)
        x = denoised + (next_level / level_hat) * (x - denoised)
    return x


#: Samplers by name.
SAMPLERS: Final[Mapping[str, Sampler]] = {"euler": euler, "heun": heun, "stochastic": stochastic}
