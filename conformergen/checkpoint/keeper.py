"""Which checkpoints of a training run are kept: the best and the newest."""

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from conformergen.checkpoint.folder import find_checkpoints
from conformergen.errors import DataError, OtherRunError
from conformergen.runtime.files import temporary_name

#: Newest checkpoints that are kept besides the best.
KEPT: Final = 3


class CheckpointKeeper:
    """Writes checkpoints, keeps the best and retires old ones.

    Args:
        out: Run folder.
        write: Commits a checkpoint into a folder, with the given losses in its settings.
        best: Best validation loss so far, of a resumed run.

    Attributes:
        best: Best validation loss so far.
        newest: Validation loss of the newest checkpoint.
    """

    def __init__(
        self, out: Path, write: Callable[[Path, Mapping[str, float | None]], None], *, best: float | None
    ) -> None:
        self._out, self._write = out, write
        self.best = self.newest = best

    def save(self, step: int, val_loss: float | None, *, exportable: bool) -> None:
        """Commit the checkpoint of a step.

        Args:
            step: Optimiser steps so far.
            val_loss: Validation loss, or None without validation data.
            exportable: Whether the network can be exported as it is; only then it may become the best.
        """
        self.newest = val_loss
        improved = exportable and val_loss is not None and (self.best is None or val_loss < self.best)
        self.best = val_loss if improved else self.best
        # The best comes first: after a kill between the two the older checkpoint does not know of it, and it is made
        # again.
        for name in [*(["best"] if improved else []), f"ckpt-{step:08d}"]:
            self._write(self._out / name, {"val_loss": val_loss, "best_val_loss": self.best})
        for old in find_checkpoints(self._out)[KEPT:]:
            # Renamed first, so that a kill in between leaves no partial checkpoint under its name.
            retired = temporary_name(old.with_name(f"old-{old.name}"))
            os.replace(old, retired)
            shutil.rmtree(retired)


def restore_newest(
    checkpoints: Sequence[Path], load: Callable[[Path], dict[str, Any]], warn: Callable[[str], None]
) -> dict[str, Any] | None:
    """Restore the newest checkpoint that is intact; damaged ones are named in a warning.

    Args:
        checkpoints: Folders, newest first.
        load: Restores one of them and returns its settings.
        warn: Receives warnings.

    Returns:
        The settings of the restored checkpoint, or None without any checkpoint.

    Raises:
        DataError: When no checkpoint can be read.
        OtherRunError: When the newest one belongs to another run.
    """
    for folder in checkpoints:
        try:
            return load(folder)
        except OtherRunError:
            raise
        except DataError as error:
            warn(f"{error}; trying the checkpoint before it")
    if checkpoints:
        raise DataError(f"none of {len(checkpoints)} checkpoints can be read")
    return None
