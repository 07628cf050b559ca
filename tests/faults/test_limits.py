"""F21, F24, F25: memory that ends, a loaded machine, and long runs."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from conformergen.checkpoint.model import load_model
from conformergen.generation import stream
from conformergen.generation.settings import GenerateSettings
from conformergen.io.inputs import InputRecord
from conformergen.io.sandbox.process import SandboxReader
from conformergen.sampling import SamplingJob, SamplingSettings, sample_batch, sample_in_memory

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("can't allocate memory"), MemoryError()]
)
def test_batches_are_halved_where_memory_ends(tiny_run, ensembles, error):
    """F21: the same conformers as in one batch, to rounding; what does not fit alone is None; bugs are not caught."""
    model = load_model(tiny_run)
    jobs = [
        SamplingJob(molecule=s.molecule, conformer=i, start_positions=s.positions[0])
        for s in ensembles
        for i in range(3)
    ]
    settings = SamplingSettings(steps=2)
    whole = sample_batch(model.network, model.diffusion, jobs, settings, seed=0)
    largest = max(job.molecule.graph.n_atoms for job in jobs)
    sizes = []

    def limited(jobs):
        sizes.append(len(jobs))
        if len(jobs) > 2 or jobs[0].molecule.graph.n_atoms == largest:
            raise error
        return sample_batch(model.network, model.diffusion, jobs, settings, seed=0)

    found = sample_in_memory(limited, jobs)
    assert max(sizes) == len(jobs)
    for job, positions, expected in zip(jobs, found, whole, strict=True):
        if job.molecule.graph.n_atoms == largest:
            assert positions is None
        else:
            assert positions == pytest.approx(expected, abs=1e-5)

    def broken(jobs):
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        sample_in_memory(broken, jobs)


def test_memory_that_ends_is_one_line():
    """F21."""
    script = (
        "import resource, sys\n"
        "from conformergen.cli import app\n"
        "import conformergen.generation.stream as stream\n"
        "def none(*_, **__): raise MemoryError\n"
        "stream._Networks = none\n"
        "app(['generate', 'CCO', '-n', '1', '-o', '-'])\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 74
    assert done.stderr.strip() == "conformergen: error: out of memory"


def _spinning(count):
    return [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]


def test_loaded_machine_gives_the_same_bytes(run, tmp_path, times):
    """F24."""
    source = tmp_path / "in.smi"
    source.write_text("".join(f"{'C' * (3 + i % 7)}N(C)C(=O)CO m{i}\n" for i in range(12)))
    command = ["generate", source, "-n", 4, "--jobs", 2, "-o"]
    assert run(*command, tmp_path / "idle.sdf")[0] == 0
    spinning = _spinning(times(4, 16))
    try:
        assert run(*command, tmp_path / "loaded.sdf")[0] == 0
    finally:
        for process in spinning:
            process.send_signal(signal.SIGKILL)
            process.wait()
    assert (tmp_path / "idle.sdf").read_bytes() == (tmp_path / "loaded.sdf").read_bytes()


def _resident():
    """Resident memory, bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _open_files():
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
@pytest.mark.parametrize("method", ["etkdg", "model"])
def test_long_runs_do_not_grow(method, times, monkeypatch):
    """F25: memory and open files of a stream of molecules, after a quarter of it and at its end."""
    n = times(800, 10_000) if method == "etkdg" else times(96, 4_000)
    texts = ["CCO", "CC(=O)NC", "c1ccccc1CN", "C[C@H](N)C(=O)O", "C1CCOC1", "this is none"]
    records = (InputRecord(index=i, smiles=texts[i % 6], name=f"m{i}") for i in range(n))
    marks = []
    monkeypatch.setattr(stream, "BLOCK", 8)
    for _ in stream.Pipeline(GenerateSettings(method=method, n=1, steps=1)).blocks(records):
        marks.append((_resident(), _open_files()))
    early, late = marks[len(marks) // 4], marks[-1]
    assert late[1] == early[1]
    # The allocator's own noise is a few MB however long the run is; a leak of 1 kB a molecule shows in the full form.
    assert late[0] - early[0] < 8e6 + 100.0 * n


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_reading_many_files_does_not_grow(shard_folder, times):
    """F25: one child for all of them."""
    path = next(shard_folder.glob("*.h5"))
    marks = []
    with SandboxReader() as child:
        for _ in range(times(200, 10_000)):
            assert np.isfinite(child.load(path)[1]["positions"]).all()
            marks.append((_resident(), _open_files()))
    assert marks[-1][1] == marks[len(marks) // 4][1]
    assert marks[-1][0] - marks[len(marks) // 4][0] < 8e6
