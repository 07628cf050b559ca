"""The training step under accumulation, several processes, skipped steps; state of every relaxation mode."""

import csv
import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from conformergen.checkpoint.model import load_model
from conformergen.commands.export import export
from conformergen.commands.info import describe
from conformergen.commands.train import train
from conformergen.config import load_config
from conformergen.datasets.loader import TrainingSet
from conformergen.errors import InputError
from conformergen.nn import BACKBONES, RELAXATION_MODES, make_backbone
from conformergen.nn.relaxation import RelaxationSettings
from conformergen.reports.training_report import REPORT, TRACE
from conformergen.sampling import SamplingJob, SamplingSettings, equivariance_error
from conformergen.training.logs import METRICS, RELAXATION
from conformergen.training.trainer import Trainer, with_beta_zero

RELAXED = [name for name, mode in RELAXATION_MODES.items() if mode.has_branches]


def _trainer(mode="recm", backbone="headwise", **training):
    overrides = [f"network.relaxation.mode={mode}", f"network.backbone={backbone}", "network.channels=16"]
    overrides += [f"training.{key}={value}" for key, value in training.items()]
    config = load_config("tiny", None, overrides)
    torch.manual_seed(0)
    return Trainer(make_backbone(config.network), config.diffusion, config.training, relaxation=mode, device="cpu")


def _data(ensembles):
    return TrainingSet(ensembles, pair_budget=1000, confs_per_epoch=4)


def _train(trainer, data, steps):
    batches = data.stream(0, 0, 0)
    for _ in range(steps):
        trainer.train_step(data, batches)


def _state(trainer):
    return {k: v.clone() for b in trainer.branches for k, v in b.state_dict().items()}


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("mode", RELAXED)
def test_every_mode_trains_every_backbone(ensembles, mode, backbone):
    trainer = _trainer(mode, backbone)
    before = [p.detach().clone() for p in trainer.network.parameters()]
    _train(trainer, _data(ensembles), 2)
    assert trainer.n_skipped == 0
    after = list(trainer.network.parameters())
    assert all(torch.isfinite(p).all() for p in after)
    assert sum(not torch.equal(a, b) for a, b in zip(before, after, strict=True)) > len(after) // 2


OPTIONS = {
    "o3": {"group": "o3"}, "dense": {"rank": 0}, "probe": {"probe": "mlp"}, "inversion": {"keep_inversion": True},
    "resilient": {"mode": "ace", "ace_constraint": "resilient"}, "second": {"every": 2},
    "gradnorm": {"mode": "remul", "remul_weighting": "gradnorm"},
}  # fmt: skip


@pytest.mark.parametrize("name", OPTIONS)
def test_options_of_the_branch_train(ensembles, name):
    config = load_config("tiny", None, ["network.channels=16"])
    network = replace(config.network, relaxation=RelaxationSettings(**{"rank": 4, **OPTIONS[name]}))
    mode = network.relaxation.mode
    trainer = Trainer(make_backbone(network), config.diffusion, config.training, relaxation=mode, device="cpu")
    _train(trainer, _data(ensembles), 3)
    assert trainer.n_skipped == 0
    assert 0 < trainer.max_beta() <= 1.1


@pytest.mark.parametrize("mode", RELAXED)
def test_resume_keeps_the_state_of_each_mode(shard_folder, tiny_config, tmp_path, mode):
    relaxation = replace(tiny_config.network.relaxation, mode=mode)
    config = replace(tiny_config, network=replace(tiny_config.network, relaxation=relaxation))

    def interrupt(line):
        if line.step == 6:
            raise RuntimeError("killed")

    train([shard_folder], tmp_path / "straight", config, device="cpu")
    with pytest.raises(RuntimeError):
        train([shard_folder], tmp_path / "resumed", config, device="cpu", report=interrupt)
    train([shard_folder], tmp_path / "resumed", config, device="cpu", resume=True)
    with (tmp_path / "resumed" / METRICS).open() as file:
        assert [int(r["step"]) for r in csv.DictReader(file)] == [4, 6, 8, 12]
    for name in ("state.safetensors", "model.safetensors"):
        straight, resumed = (load_file(tmp_path / run / "ckpt-00000012" / name) for run in ("straight", "resumed"))
        assert straight.keys() == resumed.keys()
        assert all(torch.equal(straight[k], resumed[k]) for k in straight)


def test_skipped_step_changes_nothing(ensembles):
    trainer = _trainer()
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
sys.path[:0] = [{tests!r}]
from test_trainer import _state, _train, _trainer
from conformergen.datasets.loader import TrainingSet
from conformergen.io.shards import read_folder
from pathlib import Path
torch.distributed.init_process_group("gloo")
data = TrainingSet(list(read_folder(Path({folder!r}))), pair_budget=1000, confs_per_epoch=4)
trainer = _trainer()
_train(trainer, data, 6)
torch.save((_state(trainer), [p.detach() for p in trainer.network.parameters()]), {out!r} + str(trainer.rank))
torch.distributed.destroy_process_group()
"""


def test_two_processes_and_two_micro_batches_agree(shard_folder, tmp_path):
    """Batches of unequal size: both divide by the count of the whole step, and add the sums."""
    from conformergen.io.shards import read_folder

    script = tmp_path / "ranks.py"
    here = os.path.dirname(__file__)
    script.write_text(RANKS.format(tests=here, folder=str(shard_folder), out=str(tmp_path / "rank")))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    data = TrainingSet(list(read_folder(shard_folder)), pair_budget=1000, confs_per_epoch=4)
    sizes = [len(examples) for examples in data.plan(0, 0)]
    assert len(set(sizes)) > 1
    alone = _trainer(accumulate=2)
    _train(alone, data, 6)
    for rank in (0, 1):
        state, weights = torch.load(tmp_path / f"rank{rank}")
        for key, value in _state(alone).items():
            assert torch.allclose(state[key], value, atol=1e-6), key
        for ours, theirs in zip(alone.network.parameters(), weights, strict=True):
            assert torch.allclose(ours, theirs, atol=1e-4)


def test_sampler_is_equivariant_exactly_where_levels_are_closed(ensembles):
    trainer = _trainer()
    with torch.no_grad():
        for parameter in trainer.network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    jobs = [SamplingJob(molecule=s.molecule, conformer=0, start_positions=s.positions[0]) for s in ensembles]
    network = trainer.network.eval()
    settings = SamplingSettings(sampler="stochastic")
    with with_beta_zero(network):
        assert equivariance_error(network, trainer.diffusion, jobs, settings, seed=0) < 1e-5
    assert equivariance_error(network, trainer.diffusion, jobs, settings, seed=0) > 1e-4


def test_run_leaves_trace_report_and_betas(tiny_run):
    with (tiny_run / RELAXATION).open() as file:
        rows = list(csv.DictReader(file))
    assert rows[0].keys() == {"step", "layer", "block", "beta", "s", "c", "memory"}
    assert {r["block"] for r in rows} == {"0e>1o", "1o>0e", "1o>1o"}
    assert (tiny_run / TRACE).read_bytes()[:4] == b"\x89PNG"
    page = (tiny_run / REPORT).read_text()
    assert "Beta of each block" in page
    assert "equivariance error" in page
    assert len(describe(str(tiny_run))["betas"]) == 4
    with (tiny_run / METRICS).open() as file:
        assert float(list(csv.DictReader(file))[-1]["equivariance_error"]) < 1e-5  # levels are closed by then


@pytest.mark.parametrize("mode", RELAXED)
def test_exact_export_or_refusal(shard_folder, tiny_config, tmp_path, mode):
    relaxation = replace(tiny_config.network.relaxation, mode=mode)
    config = replace(tiny_config, network=replace(tiny_config.network, relaxation=relaxation))
    run = tmp_path / "run"
    train([shard_folder], run, config, device="cpu")
    if mode in ("ace", "remul", "rpp"):
        with pytest.raises(InputError, match="max beta"):
            export(str(run), tmp_path / "exact", exact=True)
        summary = export(str(run), tmp_path / "kept", exact=False)
        assert not summary.equivariant
        assert summary.equivariance_error_exported == summary.equivariance_error_trained > 1e-5
        assert load_model(tmp_path / "kept").network.branches()
        return
    summary = export(str(run), tmp_path / "exact", exact=True)
    assert summary.equivariance_error_exported < 1e-5
    model = load_model(tmp_path / "exact")
    assert not model.network.branches()
    assert json.loads((tmp_path / "exact" / "settings.json").read_text())["trained_with"] == mode
