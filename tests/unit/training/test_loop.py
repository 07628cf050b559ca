"""Tests of ``conformergen.training.loop``."""

import pytest
from support import tiny_trainer

from conformergen.errors import DivergedError
from conformergen.training.loop import run_with_one_restart


def test_work_is_restarted_once_at_half_the_learning_rate():
    calls, warnings = [], []
    trainer = tiny_trainer()

    def work():
        calls.append(trainer.lr_factor)
        if len(calls) == 1:
            raise DivergedError("collapsed")

    run_with_one_restart(work, trainer, lambda: {"step": 4}, warnings.append)
    assert calls == [1.0, 0.5]
    assert len(warnings) == 1

    def always():
        raise DivergedError("collapsed")

    with pytest.raises(DivergedError):
        run_with_one_restart(always, tiny_trainer(), lambda: {"step": 4}, warnings.append)
