"""Settings of the training of a denoiser."""

from dataclasses import dataclass

from conformergen.errors import InputError


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """How the denoiser is fitted.

    Attributes:
        steps: Number of optimiser steps.
        learning_rate: Peak learning rate.
        warmup: Steps of linear warm-up, followed by a cosine to 0.
        weight_decay: AdamW decay of all weights except those of relaxed branches.
        clip: Largest gradient norm, computed without the branches.
        ema: Decay of the averaged weights, reached after a warm-up.
        pair_budget: Padded atom pairs in one batch.
        confs_per_epoch: Conformers drawn from each molecule in one epoch.
        accumulate: Batches summed into one optimiser step.
        rotate: Apply one Haar rotation to each molecule in each step; without it a relaxed layer learns the frame.
        bf16: Autocast linear layers to bfloat16; coordinates and distances stay float32.
        validate_every: Steps between validations.
        checkpoint_every: Steps between checkpoints.
        log_every: Steps between log lines.
        seed: Seed of weights, batches, noise and rotations.
    """

    steps: int = 20_000
    learning_rate: float = 1e-3
    warmup: int = 200
    weight_decay: float = 0.01
    clip: float = 1.0
    ema: float = 0.999
    pair_budget: int = 64_000
    confs_per_epoch: int = 10
    accumulate: int = 1
    rotate: bool = True
    bf16: bool = False
    validate_every: int = 500
    checkpoint_every: int = 500
    log_every: int = 50
    seed: int = 0

    def __post_init__(self) -> None:
        counts = (self.steps, self.pair_budget, self.confs_per_epoch, self.accumulate)
        if min(*counts, self.validate_every, self.checkpoint_every, self.log_every) < 1 or self.warmup < 0:
            raise InputError("training: counts and intervals must be at least 1, warmup at least 0")
        if self.learning_rate <= 0 or self.clip <= 0 or not 0 <= self.ema < 1:
            raise InputError("training: learning_rate > 0, clip > 0 and 0 <= ema < 1 are required")
