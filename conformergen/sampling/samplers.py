"""Integrators of dx/du = (x - D(x, u)) / u. To add one: a function here and a line in ``SAMPLERS``."""

import itertools
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from jaxtyping import Float
from torch import Tensor

from conformergen.diffusion import Path

Positions = Float[Tensor, "batch atom 3"]
#: Denoised coordinates at a level.
Denoiser = Callable[[Tensor, float], Tensor]
#: Fresh centred standard normal numbers, one stream for each conformer.
Noise = Callable[[], Tensor]


class Sampler(Protocol):
    """Carry x from the first level to the data."""

    def __call__(self, denoiser: Denoiser, x: Positions, levels: list[float], *, path: Path, noise: Noise) -> Positions:
        """Integrate over ``levels``, descending, the last 0."""
        ...


def euler(denoiser: Denoiser, x: Positions, levels: list[float], *, path: Path, noise: Noise) -> Positions:
    """First order; one evaluation a step. The last step lands on the denoised coordinates."""
    del path, noise
    for level, following in itertools.pairwise(levels):
        denoised = denoiser(x, level)
        x = denoised + (following / level) * (x - denoised)
    return x


def heun(denoiser: Denoiser, x: Positions, levels: list[float], *, path: Path, noise: Noise) -> Positions:
    """Second order (Karras et al. 2022, algorithm 1); two evaluations a step, one on the last."""
    del path, noise
    for level, following in itertools.pairwise(levels):
        slope = (x - denoiser(x, level)) / level
        predicted = x + (following - level) * slope
        if following > 0:
            slope = 0.5 * (slope + (predicted - denoiser(predicted, following)) / following)
            predicted = x + (following - level) * slope
        x = predicted
    return x


#: Share by which the stochastic sampler raises the level before each step.
_CHURN: Final = 0.2


def stochastic(denoiser: Denoiser, x: Positions, levels: list[float], *, path: Path, noise: Noise) -> Positions:
    """Euler with churn (Karras et al. 2022, algorithm 2): noise added back before each step but the first."""
    top = levels[0]
    for index, (level, following) in enumerate(itertools.pairwise(levels)):
        raised = min(level * (1.0 + _CHURN), top) if index else level
        extra = path.noise_scale(raised) ** 2 - path.noise_scale(level) ** 2
        if extra > 0:
            x = x + extra**0.5 * noise()
        denoised = denoiser(x, raised)
        x = denoised + (following / raised) * (x - denoised)
    return x


SAMPLERS: Final[Mapping[str, Sampler]] = {"euler": euler, "heun": heun, "stochastic": stochastic}
