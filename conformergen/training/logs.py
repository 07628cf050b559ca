"""Logs of a training run."""

import csv
import importlib.util
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Final

from conformergen.training.loop import LogLine
from conformergen.training.trainer import Trainer

#: Losses and rates, one line for each log line of the loop.
METRICS: Final = "metrics.csv"
#: State of every relaxed block, one line for each block and log line.
RELAXATION: Final = "relaxation.csv"


class TrainingLogs:
    """CSV logs of a run, and TensorBoard where it is installed."""

    def __init__(self, out: Path, trainer: Trainer) -> None:
        self._trainer = trainer
        for name in (METRICS, RELAXATION):
            _drop_after(out / name, trainer.step)
        self._metrics = (out / METRICS).open("a", newline="")
        self._relaxation = (out / RELAXATION).open("a", newline="")
        if self._metrics.tell() == 0:
            csv.writer(self._metrics).writerow([f.name for f in fields(LogLine)])
        if self._relaxation.tell() == 0:
            csv.writer(self._relaxation).writerow(["step", "layer", "block", "beta", "s", "c", "memory"])
        self._board: Any = None
        if importlib.util.find_spec("tensorboard") is not None:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(out / "tensorboard"))

    def __enter__(self) -> "TrainingLogs":
        return self

    def __exit__(self, *_: object) -> None:
        self._metrics.close()
        self._relaxation.close()
        if self._board is not None:
            self._board.close()

    def write(self, line: LogLine) -> None:
        """Append one line to each log."""
        values = asdict(line) | {"layer_betas": " ".join(f"{b:.6g}" for b in line.layer_betas)}
        csv.writer(self._metrics).writerow(["" if v is None else v for v in values.values()])
        writer = csv.writer(self._relaxation)
        for layer, branch in enumerate(self._trainer.branches):
            columns = (branch.beta.tolist(), branch.scale.tolist(), branch.cosine.tolist(), branch.memory.tolist())
            for name, beta, scale, cosine, memory in zip(branch.names, *columns, strict=True):
                numbers = [f"{v:.6g}" for v in (beta, scale, cosine)]
                writer.writerow([line.step, layer, name, *numbers, " ".join(f"{m:.6g}" for m in memory)])
        self._metrics.flush()
        self._relaxation.flush()
        if self._board is not None:
            for key, value in values.items():
                if key != "step" and isinstance(value, float):
                    self._board.add_scalar(key, value, line.step)


def log_to(*receivers: Callable[[LogLine], None]) -> Callable[[LogLine], None]:
    """A function that hands each log line to all receivers, in their order."""

    def log(line: LogLine) -> None:
        for receive in receivers:
            receive(line)

    return log


def _drop_after(path: Path, step: int) -> None:
    """Drop the lines of a CSV log after ``step``, so that a resumed run logs each step once."""
    if not path.is_file():
        return
    with path.open(newline="") as file:
        rows = list(csv.reader(file))
    kept = rows[:1] + [r for r in rows[1:] if r and r[0].isdigit() and int(r[0]) <= step]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(kept)
