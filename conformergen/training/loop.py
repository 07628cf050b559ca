"""The training loop: steps, validation, log lines and checkpoints."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch

from conformergen.datasets.loader import TrainingSet
from conformergen.errors import DivergedError
from conformergen.nn import Backbone
from conformergen.training.trainer import Trainer

#: Factor on the learning rate after a numerical collapse.
_LR_FACTOR_AFTER_COLLAPSE: Final = 0.5


@dataclass(frozen=True, kw_only=True)
class LogLine:
    """Content of one log line.

    Attributes:
        step: Optimiser steps so far.
        loss: Mean training loss since the line before.
        learning_rate: Learning rate of the next step.
        gradient_norm: Norm of the gradient before clipping.
        max_beta: Largest absolute beta of all blocks.
        seconds: Wall time since the start of this process.
        val_loss: Validation loss of the averaged weights at beta = 0.
        layer_betas: Largest absolute beta of each layer.
        val_loss_relaxed: Validation loss of the averaged weights with beta as it is.
        equivariance_error: Equivariance error of the sampling that ``generate`` runs, in Å, with beta as it is.
    """

    step: int
    loss: float
    learning_rate: float
    gradient_norm: float
    max_beta: float
    seconds: float
    val_loss: float | None = None
    layer_betas: tuple[float, ...] = ()
    val_loss_relaxed: float | None = None
    equivariance_error: float | None = None


def train_loop(
    trainer: Trainer,
    data: TrainingSet,
    validation: TrainingSet | None,
    *,
    log: Callable[[LogLine], None] = lambda line: None,
    save: Callable[[Trainer, float | None], None] = lambda trainer, val_loss: None,
    symmetry: Callable[[Backbone, torch.device], float] | None = None,
    deadline: float | None = None,
    request: Callable[[], str | None] = lambda: None,
) -> None:
    """Train until the last step, the deadline or a request to stop; then save.

    Args:
        trainer: State, at any step.
        data: Training ensembles.
        validation: Validation ensembles, or None.
        log: Receives a line every ``log_every`` steps and at each validation.
        save: Commits a checkpoint; its second argument is the newest validation loss.
        symmetry: Equivariance error (Å) of the whole sampling with a network; called at each validation.
        deadline: Time of the monotonic clock at which training stops.
        request: Called after each step; returns ``stop``, ``checkpoint`` (and go on), or None.

    Raises:
        DivergedError: As ``Trainer.train_step``, or for non-finite weights where a checkpoint is due.
    """
    settings = trainer.settings
    batches = data.stream(settings.seed, trainer.epoch, trainer.cursor)
    began, loss_sum, count = time.monotonic(), torch.zeros((), device=trainer.device), 0
    val_loss: float | None = None
    while trainer.step < settings.steps:
        loss, norm = trainer.train_step(data, batches)
        loss_sum, count = loss_sum + loss, count + 1
        last = trainer.step == settings.steps
        validating = validation is not None and (last or trainer.step % settings.validate_every == 0)
        if validating or last or trainer.step % settings.log_every == 0:
            relaxed = error = None
            if validating and validation is not None:
                val_loss = trainer.validation_loss(validation, relaxed=False)
                relaxed = trainer.validation_loss(validation, relaxed=True) if trainer.branches else val_loss
                error = None if symmetry is None else symmetry(trainer.averaged.eval(), trainer.device)
            log(
                LogLine(
                    step=trainer.step,
                    loss=float(loss_sum) / count,
                    learning_rate=trainer.learning_rate(),
                    gradient_norm=float(norm),
                    max_beta=trainer.max_beta(),
                    layer_betas=tuple(b.max_level for b in trainer.branches),
                    seconds=time.monotonic() - began,
                    val_loss=val_loss if validating else None,
                    val_loss_relaxed=relaxed,
                    equivariance_error=error,
                )
            )
            loss_sum, count = torch.zeros((), device=trainer.device), 0
        wish = request()
        stopping = last or trainer.agree(wish == "stop" or (deadline is not None and time.monotonic() > deadline))
        if stopping or wish == "checkpoint" or trainer.step % settings.checkpoint_every == 0:
            if not trainer.is_finite():
                raise DivergedError(f"training collapsed: non-finite weights at step {trainer.step}")
            save(trainer, val_loss)
        if stopping:
            break


def run_with_one_restart(
    work: Callable[[], None], trainer: Trainer, restore: Callable[[], object | None], warn: Callable[[str], None]
) -> None:
    """Train; after a numerical collapse continue once from the newest checkpoint, at half the learning rate.

    Args:
        work: Runs the training loop.
        trainer: State of the run.
        restore: Restores the newest checkpoint and returns None where there is none.
        warn: Receives a warning when training is restarted.

    Raises:
        DivergedError: When there is no checkpoint, or when training collapses again.
    """
    try:
        work()
    except DivergedError as error:
        if trainer.lr_factor < 1.0 or restore() is None or trainer.lr_factor < 1.0:
            raise
        trainer.lr_factor, trainer.recent_skips = _LR_FACTOR_AFTER_COLLAPSE, []
        warn(f"{error}; continuing from step {trainer.step} at half the learning rate")
        work()
