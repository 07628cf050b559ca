"""Tests of ``conformergen.training.logs``."""

import csv
from dataclasses import replace

from support import tiny_trainer

from conformergen.training.logs import METRICS, TrainingLogs
from conformergen.training.loop import LogLine

LINE = LogLine(step=1, loss=1.0, learning_rate=1e-3, gradient_norm=1.0, max_beta=0.0, seconds=1.0)


def test_lines_after_the_restored_step_are_dropped(tmp_path):
    with TrainingLogs(tmp_path, tiny_trainer()) as logs:
        for step in (1, 2, 3):
            logs.write(replace(LINE, step=step))
    trainer = tiny_trainer()
    trainer.step = 2
    with TrainingLogs(tmp_path, trainer) as logs:
        logs.write(replace(LINE, step=3, loss=9.0))
    with (tmp_path / METRICS).open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == [1, 2, 3]
    assert float(rows[-1]["loss"]) == 9.0
