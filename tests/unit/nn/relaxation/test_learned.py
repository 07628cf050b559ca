"""Tests of ``conformergen.nn.relaxation.learned``."""

import torch
from support import tiny_trainer

from conformergen.datasets.loader import TrainingSet


def test_betas_after_a_few_steps(ensembles):
    trainer = tiny_trainer("learned", warmup=1)
    data = TrainingSet(ensembles, pair_budget=2000, confs_per_epoch=4)
    before = torch.cat([b.beta.detach().clone() for b in trainer.branches])
    batches = data.stream(0, 0, 0)
    for _ in range(3):
        trainer.train_step(data, batches)
    after = torch.cat([b.beta.detach().clone() for b in trainer.branches])
    assert not (before == after).all()
