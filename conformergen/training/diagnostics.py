"""What is watched besides the loss."""

from collections.abc import Callable
from typing import Final

from conformergen.training.loop import LogLine
from conformergen.training.trainer import Trainer

#: Beta above which a block counts as open at half time.
OPEN_BETA: Final = 0.02
#: Number of steps from which on betas have converged at half time.
_MIN_STEPS: Final = 1000


class OpenBetaWarning:
    """Warns once, at half time, when a scalar-to-vector block is open: then the data have a preferred frame."""

    def __init__(self, trainer: Trainer, warn: Callable[[str], None]) -> None:
        self._trainer, self._warn = trainer, warn
        self._warned = False

    def warn_if_open(self, line: LogLine) -> None:
        """Look at the betas of the first layer."""
        steps, mode = self._trainer.settings.steps, self._trainer.relaxation.settings.mode
        half_time = steps // 2 <= line.step < steps and steps >= _MIN_STEPS
        if self._warned or not half_time or not self._trainer.branches or mode not in ("recm", "learned"):
            return
        self._warned = True
        first = self._trainer.branches[0]
        for name, beta in zip(first.names, first.beta.tolist(), strict=True):
            if name == "0e>1o" and abs(beta) > OPEN_BETA:
                self._warn(f"beta of the first {name} is {beta:.3f} at half time: check rotation augmentation")
