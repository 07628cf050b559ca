"""Tests of ``conformergen.training.trainer``."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support import tiny_trainer

from conformergen.config import load_config
from conformergen.datasets.loader import TrainingSet
from conformergen.diffusion import PATHS, PRIORS
from conformergen.nn import BACKBONES, RELAXATION_MODES, make_backbone
from conformergen.nn.relaxation import RelaxationSettings
from conformergen.sampling import SamplingJob, SamplingSettings, equivariance_error
from conformergen.training.trainer import Trainer, with_beta_zero

RELAXED = [name for name, mode in RELAXATION_MODES.items() if mode.has_branches]


def _data(ensembles):
    return TrainingSet(ensembles, pair_budget=1000, confs_per_epoch=4)


def _train(trainer, data, steps):
    batches = data.stream(0, 0, 0)
    for _ in range(steps):
        trainer.train_step(data, batches)


OPTIONS = {
    "o3": {"group": "o3"}, "dense": {"rank": 0}, "probe": {"probe": "mlp"}, "inversion": {"keep_inversion": True},
    "resilient": {"mode": "ace", "ace_constraint": "resilient"}, "second": {"every": 2},
    "gradnorm": {"mode": "remul", "remul_weighting": "gradnorm"},
}  # fmt: skip


def _state(trainer):
    return {k: v.clone() for b in trainer.branches for k, v in b.state_dict().items()}


def _broken(path):
    """The same path with a loss weight that is not a number, as after an overflow."""

    class Broken(type(path)):
        def weight(self, noise_level):
            return super().weight(noise_level) * float("nan")

    return Broken(sigma=path.sigma, sigma_data=path.sigma_data)


RANKS = """
import pickle, sys
import torch
torch.set_num_threads(1)
sys.path[:0] = {tests!r}
from support import tiny_trainer
from test_trainer import _state, _train
from conformergen.datasets.loader import TrainingSet
from conformergen.io.shards import read_folder
from pathlib import Path
torch.distributed.init_process_group("gloo")
data = TrainingSet(list(read_folder(Path({folder!r}))), pair_budget=1000, confs_per_epoch=4)
trainer = tiny_trainer()
_train(trainer, data, 6)
torch.save((_state(trainer), [p.detach() for p in trainer.network.parameters()]), {out!r} + str(trainer.rank))
torch.distributed.destroy_process_group()
"""


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("mode", RELAXED)
def test_every_mode_trains_every_backbone(ensembles, mode, backbone):
    trainer = tiny_trainer(mode, backbone)
    before = [p.detach().clone() for p in trainer.network.parameters()]
    _train(trainer, _data(ensembles), 2)
    assert trainer.n_skipped == 0
    after = list(trainer.network.parameters())
    assert all(torch.isfinite(p).all() for p in after)
    assert sum(not torch.equal(a, b) for a, b in zip(before, after, strict=True)) > len(after) // 2


@pytest.mark.parametrize("name", OPTIONS)
def test_options_of_the_branch_train(ensembles, name):
    config = load_config("tiny", None, ["network.channels=16"])
    network = replace(config.network, relaxation=RelaxationSettings(**{"rank": 4, **OPTIONS[name]}))
    mode = network.relaxation.mode
    trainer = Trainer(make_backbone(network), config.diffusion, config.training, relaxation=mode, device="cpu")
    _train(trainer, _data(ensembles), 3)
    assert trainer.n_skipped == 0
    assert 0 < trainer.max_beta() <= 1.1


def test_skipped_step_changes_nothing(ensembles):
    trainer = tiny_trainer()
    data = _data(ensembles)
    _train(trainer, data, 2)
    weights, state = [p.detach().clone() for p in trainer.network.parameters()], _state(trainer)
    trainer.path = _broken(trainer.path)
    trainer.train_step(data, data.stream(0, 0, 0))
    assert trainer.n_skipped == 1
    assert all(torch.equal(a, b) for a, b in zip(weights, trainer.network.parameters(), strict=True))
    after = _state(trainer)
    assert all(torch.equal(state[k], after[k]) for k in state)
    assert all(float(b.sums.abs().sum()) == 0.0 for b in trainer.branches)


def test_two_processes_and_two_micro_batches_agree(shard_folder, tmp_path):
    """Batches of unequal size: both divide by the count of the whole step, and add the sums."""
    from conformergen.io.shards import read_folder

    script = tmp_path / "ranks.py"
    here = os.path.dirname(__file__)
    script.write_text(
        RANKS.format(tests=[here, str(Path(here).parents[1])], folder=str(shard_folder), out=str(tmp_path / "rank"))
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    data = TrainingSet(list(read_folder(shard_folder)), pair_budget=1000, confs_per_epoch=4)
    sizes = [len(examples) for examples in data.plan(0, 0)]
    assert len(set(sizes)) > 1
    alone = tiny_trainer(accumulate=2)
    _train(alone, data, 6)
    for rank in (0, 1):
        state, weights = torch.load(tmp_path / f"rank{rank}")
        for key, value in _state(alone).items():
            assert torch.allclose(state[key], value, atol=1e-6), key
        for ours, theirs in zip(alone.network.parameters(), weights, strict=True):
            assert torch.allclose(ours, theirs, atol=1e-4)


def test_sampler_is_equivariant_exactly_where_levels_are_closed(ensembles):
    trainer = tiny_trainer()
    with torch.no_grad():
        for parameter in trainer.network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    jobs = [SamplingJob(molecule=s.molecule, conformer=0, start_positions=s.positions[0]) for s in ensembles]
    network = trainer.network.eval()
    settings = SamplingSettings(sampler="stochastic")
    with with_beta_zero(network):
        assert equivariance_error(network, trainer.diffusion, jobs, settings, seed=0) < 1e-5
    assert equivariance_error(network, trainer.diffusion, jobs, settings, seed=0) > 1e-4


def test_network_learns_to_undo_a_distortion(ensembles):
    """Starts are the references, 10 % too large: what a step must remove is the same everywhere."""
    from dataclasses import replace

    from conformergen.datasets.loader import TrainingSet
    from conformergen.training.trainer import Trainer

    config = load_config("tiny", None, ["training.steps=80", "training.warmup=5", "training.learning_rate=3e-3"])
    torch.manual_seed(0)
    trainer = Trainer(make_backbone(config.network), config.diffusion, config.training, relaxation="recm", device="cpu")
    distorted = [replace(s, starts=s.positions * np.float32(1.1)) for s in ensembles]
    data = TrainingSet(distorted, pair_budget=10_000, confs_per_epoch=4)
    batches = data.stream(0, 0, 0)
    losses = [float(trainer.train_step(data, batches)[0]) for _ in range(80)]
    assert np.mean(losses[-10:]) < 0.6 * np.mean(losses[:10])


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_prior_path_and_backbone_trains_and_samples(ensembles, backbone, prior, path):
    from conformergen.datasets.loader import TrainingSet
    from conformergen.sampling import SamplingJob, SamplingSettings, sample_batch
    from conformergen.training.trainer import Trainer

    overrides = [f"network.backbone={backbone}", f"diffusion.prior={prior}", f"diffusion.path={path}"]
    overrides += ["network.channels=8", "network.odd_channels=4", "diffusion.sigma=1.0"]
    config = load_config("tiny", None, overrides)
    trainer = Trainer(make_backbone(config.network), config.diffusion, config.training, relaxation="recm", device="cpu")
    data = TrainingSet(ensembles, pair_budget=4000, confs_per_epoch=1)
    loss, norm = trainer.train_step(data, data.stream(0, 0, 0))
    assert torch.isfinite(loss)
    assert float(norm) > 0
    jobs = [SamplingJob(molecule=s.molecule, conformer=0, start_positions=s.positions[0]) for s in ensembles]
    network = trainer.network.eval()
    for out, s in zip(
        sample_batch(network, config.diffusion, jobs, SamplingSettings(steps=2), seed=0), ensembles, strict=True
    ):
        assert out.shape == s.positions[0].shape
        assert np.isfinite(out).all()
