"""Tests of ``conformergen.checkpoint.state``."""

from dataclasses import replace

import pytest
import torch

from conformergen.checkpoint.state import load_run, save_run
from conformergen.errors import OtherRunError
from conformergen.nn import make_backbone


class _Run:
    """Stands for a trainer."""

    def __init__(self, config):
        self.network = make_backbone(config.network)
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=0.1)
        self.average = torch.optim.swa_utils.AveragedModel(self.network)

    def step(self):
        for parameter in self.network.parameters():
            parameter.grad = torch.ones_like(parameter)
        self.optimizer.step()
        self.average.update_parameters(self.network)


def test_state_is_restored_bit_for_bit(tiny_config, tmp_path):
    run, other = _Run(tiny_config), _Run(tiny_config)
    for _ in range(2):
        run.step()
    save_run(tmp_path / "ckpt", run, run.average.module, tiny_config, {"step": 2})
    other.step()
    assert load_run(tmp_path / "ckpt", other, tiny_config)["progress"] == {"step": 2}
    for before in (run, other):
        before.step()
    for ours, theirs in zip(run.network.parameters(), other.network.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert int(other.average.n_averaged) == int(run.average.n_averaged)
    changed = replace(tiny_config, training=replace(tiny_config.training, steps=99))
    with pytest.raises(OtherRunError, match="other settings"):
        load_run(tmp_path / "ckpt", other, changed)
