"""Tests of ``conformergen.commands.train``."""

import csv
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from conformergen.checkpoint.model import load_model
from conformergen.chem import embed, molecule_from_smiles
from conformergen.commands.info import describe
from conformergen.commands.train import _initialise, train
from conformergen.config import load_config
from conformergen.datasets.collate import collate_graphs, molecule_tables, pad_positions
from conformergen.errors import DataError, DivergedError, InputError
from conformergen.nn import RELAXATION_MODES, make_backbone
from conformergen.reports.training_report import REPORT, TRACE
from conformergen.training.logs import METRICS, RELAXATION
from conformergen.training.trainer import Trainer

RELAXED = [name for name, mode in RELAXATION_MODES.items() if mode.has_branches]


def _batch(*smiles):
    molecules = [molecule_from_smiles(s) for s in smiles]
    graph = collate_graphs([molecule_tables(m) for m in molecules])
    positions = [embed(m, 1, seed=0)[0] for m in molecules]
    return molecules, graph, pad_positions(positions, graph.mask.shape[1]).double()


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


def test_a_network_that_turns_nothing_can_be_the_start(tiny_run):
    start = load_model(tiny_run).network
    network = make_backbone(replace(start.settings, torsions=True))
    _initialise(network, str(tiny_run))
    _, graph, x = _batch("CCOC(=O)C")
    noise = torch.zeros(1)
    with torch.inference_mode():
        torch.testing.assert_close(network(graph, x.float(), noise), start(graph, x.float(), noise))
    with pytest.raises(InputError, match="another"):
        _initialise(make_backbone(replace(start.settings, channels=8)), str(tiny_run))


def test_training_lowers_the_loss_and_logs_each_step_once(tiny_run):
    with (tiny_run / METRICS).open() as file:
        rows = list(csv.DictReader(file))
    assert [int(r["step"]) for r in rows] == [4, 6, 8, 12]
    assert rows[-1]["val_loss"]


@pytest.mark.slow
def test_killed_process_resumes_bit_exactly(shard_folder, tmp_path):
    """200 steps, kill -9 at a random moment, --resume: the same weights as an uninterrupted run."""
    command = [sys.executable, "-m", "conformergen", "train", "--data", str(shard_folder), "--preset", "tiny"]
    command += ["--steps", "200", "--set", "training.checkpoint_every=20", "--device", "cpu", "--resume", "-o"]
    subprocess.run([*command, str(tmp_path / "straight")], check=True)
    process = subprocess.Popen([*command, str(tmp_path / "killed")])
    while not (tmp_path / "killed" / "ckpt-00000060").exists():
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    subprocess.run([*command, str(tmp_path / "killed")], check=True)
    first, second = (load_file(tmp_path / n / "ckpt-00000200" / "state.safetensors") for n in ("straight", "killed"))
    assert all(torch.equal(first[k], second[k]) for k in first)


def test_damaged_checkpoint_is_skipped_with_a_warning(shard_folder, tiny_config, tiny_run, tmp_path):
    import shutil

    out = tmp_path / "run"
    shutil.copytree(tiny_run, out)
    (out / "ckpt-00000012" / "state.safetensors").write_bytes(b"junk")
    warnings = []
    train([shard_folder], out, tiny_config, device="cpu", resume=True, warn=warnings.append)
    assert "SHA-256" in warnings[0]
    with pytest.raises(InputError, match="--resume"):
        train([shard_folder], out, tiny_config, device="cpu")
    other = load_config("tiny", None, ["training.steps=99"])
    with pytest.raises(DataError, match="other settings"):
        train([shard_folder], out, other, device="cpu", resume=True)


@pytest.mark.parametrize("times", [1, 2])
def test_training_goes_back_once_after_a_collapse(shard_folder, tmp_path, monkeypatch, times):
    """F20: non-finite losses from one step on; a checkpoint is never overwritten by what they leave."""

    size = ["steps=24", "warmup=2", "validate_every=12", "checkpoint_every=4", "log_every=1", "pair_budget=4000"]
    config = load_config("tiny", None, [f"training.{s}" for s in size])
    sound, seen = Trainer.loss, []

    def loss(self, network, noised):
        values = sound(self, network, noised)
        if network.training and self.step >= 10 and len(seen) < 6 * times:
            seen.append(self.step)
            return values * float("nan")
        return values

    monkeypatch.setattr(Trainer, "loss", loss)
    warnings = []
    if times == 1:
        assert train([shard_folder], tmp_path, config, device="cpu", warn=warnings.append).finished
        assert seen == [10, 11, 12, 13, 14, 15]
        assert "step 12 at half the learning rate" in warnings[0]
    else:
        with pytest.raises(DivergedError, match="training molecules"):
            train([shard_folder], tmp_path, config, device="cpu", warn=warnings.append)
    with (tmp_path / METRICS).open() as file:
        steps = [int(row["step"]) for row in csv.DictReader(file)]
    assert steps == sorted(set(steps))
    for folder in tmp_path.glob("ckpt-*"):
        assert all(torch.isfinite(v).all() for v in load_file(folder / "model.safetensors").values())


def test_weights_that_are_no_numbers_are_not_saved(shard_folder, tiny_config, tmp_path, monkeypatch):

    monkeypatch.setattr(Trainer, "is_finite", lambda self: False)
    with pytest.raises(DivergedError, match="step 4"):
        train([shard_folder], tmp_path, tiny_config, device="cpu")
    assert not list(tmp_path.glob("ckpt-*"))
