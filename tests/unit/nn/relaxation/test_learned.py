"""Tests of ``conformergen.nn.relaxation.learned``."""

import torch

from conformergen.config import load_config
from conformergen.datasets.loader import TrainingSet
from conformergen.nn import make_backbone
from conformergen.training.trainer import Trainer


def test_betas_after_a_few_steps(ensembles):
    config = load_config("tiny", None, ["network.relaxation.mode=learned", "network.channels=16", "training.warmup=1"])
    torch.manual_seed(0)
    trainer = Trainer(
        make_backbone(config.network), config.diffusion, config.training, relaxation="learned", device="cpu"
    )
    data = TrainingSet(ensembles, pair_budget=2000, confs_per_epoch=4)
    before = torch.cat([b.beta.detach().clone() for b in trainer.branches])
    batches = data.stream(0, 0, 0)
    for _ in range(3):
        trainer.train_step(data, batches)
    after = torch.cat([b.beta.detach().clone() for b in trainer.branches])
    assert not (before == after).all()
