"""Tests of ``conformergen.training.diagnostics``."""

from support import tiny_trainer

from conformergen.training.diagnostics import OPEN_BETA, OpenBetaWarning
from conformergen.training.loop import LogLine


def _warnings(beta, steps):
    trainer = tiny_trainer(steps=2000)
    branch = trainer.branches[0]
    branch.beta.fill_(0.0)
    branch.beta[list(branch.names).index("0e>1o")] = beta
    found = []
    warning = OpenBetaWarning(trainer, found.append)
    for step in steps:
        warning.warn_if_open(
            LogLine(step=step, loss=1.0, learning_rate=1e-3, gradient_norm=1.0, max_beta=beta, seconds=1.0)
        )
    return found


def test_open_block_is_told_once_at_half_time():
    assert _warnings(2 * OPEN_BETA, [500, 900]) == []
    assert len(_warnings(2 * OPEN_BETA, [900, 1000, 1500])) == 1
    assert _warnings(0.5 * OPEN_BETA, [1000, 1500]) == []
