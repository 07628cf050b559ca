"""F6-F9, F19, F22, F23: full disks, damaged files, two runs on one output, odd paths. Nothing is silently wrong."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from conformergen.checkpoint.model import load_model
from conformergen.errors import DataError, InputError
from conformergen.io.formats import MANIFEST
from conformergen.io.manifest import read_manifest
from conformergen.io.shards import read_folder, read_shard
from conformergen.runtime.files import sweep
from conformergen.runtime.locks import LOCK, shared

ROOT = Path(__file__).parent.parent.parent
MINI = ROOT / "data" / "reference-mini"


# --- disks -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [0, 300, 1_000, 5_000, 20_000])
def test_full_disk_while_generating(run, tmp_path, limit):
    """F6: a file size limit stands for the disk; 74, one line, nothing visible, then the same as without it."""
    source = tmp_path / "in.smi"
    source.write_text("".join(f"{'C' * (3 + i % 5)}O\n" for i in range(200)))
    command = ["generate", source, "-n", 2, "--method", "etkdg", "--resume", "-o"]
    code, said = run(*command, tmp_path / "out.sdf", file_limit=limit)
    assert code == 74, said
    assert len(said.strip().splitlines()) == 1
    assert not (tmp_path / "out.sdf").exists()
    assert run(*command, tmp_path / "out.sdf")[0] == 0
    assert run(*command, tmp_path / "whole.sdf")[0] == 0
    assert (tmp_path / "out.sdf").read_bytes() == (tmp_path / "whole.sdf").read_bytes()


@pytest.mark.parametrize("limit", [0, 600, 3_000, 10_000])
def test_full_disk_while_making_shards(run, tmp_path, limit):
    code, said = run("preprocess", MINI, "-o", tmp_path / "s", "--max-confs", 1, "--no-starts", file_limit=limit)
    assert code == 74, said
    assert not (tmp_path / "s" / MANIFEST).exists()
    assert not list((tmp_path / "s").glob("*.h5*"))
    assert run("preprocess", MINI, "-o", tmp_path / "s", "--max-confs", 1, "--no-starts")[0] == 0
    assert len(list(read_folder(tmp_path / "s"))) == 47


# --- damaged files -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shard(run, tmp_path_factory):
    """A small folder of shards and what it holds."""
    folder = tmp_path_factory.mktemp("s") / "shards"
    assert run("preprocess", MINI, "-o", folder, "--max-confs", 1, "--no-starts")[0] == 0
    return folder, [s.positions.tobytes() for s in read_folder(folder)]


def _same(folder, expected):
    return [s.positions.tobytes() for s in read_folder(folder)] == expected


def test_cut_shards_are_found(shard, tmp_path):
    """F7: every one of 200 lengths."""
    folder, _ = shard
    data = (folder / "shard-00000.h5").read_bytes()
    shutil.copytree(folder, tmp_path / "s")
    for length in np.linspace(0, len(data) - 1, 200).astype(int):
        (tmp_path / "s" / "shard-00000.h5").write_bytes(data[:length])
        with pytest.raises(DataError, match="shard-00000"):
            list(read_folder(tmp_path / "s"))
        with pytest.raises(DataError, match="shard-00000"):
            read_shard(tmp_path / "s" / "shard-00000.h5")


@pytest.mark.parametrize("name", ["shard-00000.h5", MANIFEST])
def test_flipped_bits_are_never_silent(shard, tmp_path, times, name):
    """F8: either the same content or a refusal, with the manifest and, for the shard, without it."""
    folder, expected = shard
    shutil.copytree(folder, tmp_path / "s")
    target = tmp_path / "s" / name
    data = target.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(times(500, 10_000)):
        damaged = bytearray(data)
        damaged[rng.integers(len(data))] ^= 1 << int(rng.integers(8))
        target.write_bytes(bytes(damaged))
        try:
            manifest = read_manifest(tmp_path / "s")
            assert _same(tmp_path / "s", expected)
            good = read_manifest(folder)
            # A flip in the name of the digest itself leaves a manifest without one, and one key more.
            assert manifest == good
        except (DataError, InputError):
            refused += 1
        if name != MANIFEST:
            try:
                alone = read_shard(target)
            except DataError:
                continue
            assert [e.conformers.positions.tobytes() for e in alone] == expected
    assert refused > 0


def test_flipped_bits_of_a_checkpoint_are_never_silent(tmp_path, times):
    """F8, F9: every file of the shipped model."""
    shutil.copytree(ROOT / "checkpoints" / "default", tmp_path / "m")
    good = load_model(str(tmp_path / "m"))
    weights = {k: v.clone() for k, v in good.network.state_dict().items()}
    rng = np.random.default_rng(0)
    for path in sorted((tmp_path / "m").glob("*.safetensors")) + sorted((tmp_path / "m").glob("*.json")):
        data = path.read_bytes()
        for _ in range(times(20, 2_000)):
            damaged = bytearray(data)
            damaged[rng.integers(len(data))] ^= 1 << int(rng.integers(8))
            path.write_bytes(bytes(damaged))
            try:
                loaded = load_model(str(tmp_path / "m"))
            except DataError:
                continue
            assert all((v == weights[k]).all() for k, v in loaded.network.state_dict().items())
            assert loaded.digest == good.digest
        path.write_bytes(data)
        path.unlink()
        with pytest.raises((DataError, InputError)):
            load_model(str(tmp_path / "m"))
        path.write_bytes(data)


def test_damaged_journal_is_refused(run, tmp_path):
    source = tmp_path / "in.smi"
    source.write_text("".join(f"{'C' * (3 + i % 5)}O\n" for i in range(150)))
    command = ["generate", source, "-n", 1, "--method", "etkdg", "--resume", "-o", tmp_path / "out.sdf"]
    run(*command, fault="generate.block:2")
    journal = tmp_path / "out.sdf.progress"
    data = journal.read_text()
    for damaged in (data.replace('"requested": 64', '"requested": 63'), data[:40], ""):
        journal.write_text(damaged)
        code, said = run(*command)
        assert code == 2
        assert "out.sdf.progress" in said


def test_newer_schema_is_refused(shard, tmp_path):
    """F23."""
    import h5py

    shutil.copytree(shard[0], tmp_path / "s")
    with h5py.File(tmp_path / "s" / "shard-00000.h5", "a") as file:
        file.attrs["schema"] = 99
    with pytest.raises(DataError, match="newer"):
        read_shard(tmp_path / "s" / "shard-00000.h5")


# --- two runs ----------------------------------------------------------------------------------------------


def test_one_of_many_runs_on_an_output_proceeds(tmp_path, times):
    """F19: the others leave at once with 73 and name the owner."""
    source = tmp_path / "in.smi"
    source.write_text("".join(f"{'C' * (3 + i % 9)}O\n" for i in range(300)))
    command = [sys.executable, "-m", "conformergen", "generate", source, "-n", "5", "--method", "etkdg+mmff94s"]
    processes = [
        subprocess.Popen([*command, "-o", tmp_path / "out.sdf"], stderr=subprocess.PIPE, text=True)
        for _ in range(times(3, 8))
    ]
    said = [p.communicate(timeout=3600)[1] for p in processes]
    codes = [p.returncode for p in processes]
    assert 0 in codes
    assert set(codes) <= {0, 73}
    assert codes.count(73) >= 1
    assert all('"pid"' in text for code, text in zip(codes, said, strict=True) if code == 73)
    assert not (tmp_path / "out.sdf.lock").exists()


class TestJoin:
    """F19: several processes on one folder of shards; a killed one's unit is made by the others."""

    def script(self, source, out, *, join=True):
        text = (
            "import sys; from pathlib import Path\n"
            "from conformergen.commands.preprocess import PreprocessSettings, preprocess\n"
            "settings = PreprocessSettings(split='random', max_confs=2, molecules_per_shard=6)\n"
            f"print(preprocess([Path(sys.argv[1])], Path(sys.argv[2]), settings, join={join}) is not None)"
        )
        return [sys.executable, "-c", text, str(source), str(out)]

    @pytest.fixture(scope="class")
    def whole(self, digests, tmp_path_factory):
        out = tmp_path_factory.mktemp("whole")
        subprocess.run(self.script(MINI, out, join=False), check=True, capture_output=True)
        return digests(out)

    def test_joined_runs_complete_one_output(self, whole, digests, tmp_path, times):
        processes = [
            subprocess.Popen(self.script(MINI, tmp_path), stdout=subprocess.PIPE, text=True) for _ in range(times(3, 8))
        ]
        completed = [p.communicate(timeout=3600)[0].strip() for p in processes]
        assert [p.returncode for p in processes] == [0] * len(processes)
        assert "True" in completed
        assert digests(tmp_path) == whole

    def test_unit_of_a_killed_run_is_made_by_another(self, whole, digests, tmp_path):
        killed = subprocess.Popen(self.script(MINI, tmp_path))
        while not (tmp_path / "shard-00000.h5.claim").exists():
            assert killed.poll() is None
            time.sleep(0.01)
        other = subprocess.Popen(self.script(MINI, tmp_path), stdout=subprocess.PIPE, text=True)
        while not (tmp_path / "shard-00001.h5.claim").exists():
            assert other.poll() is None
            time.sleep(0.01)
        killed.kill()
        killed.wait()
        assert other.communicate(timeout=3600)[0].strip() == "True"
        assert digests(tmp_path) == whole

    def test_run_that_does_not_join_stays_out(self, run, tmp_path):
        with shared(tmp_path / LOCK) as alone:
            assert run("preprocess", MINI, "-o", tmp_path, "--no-starts")[0] == 73
            assert alone()
            code, said = run("preprocess", MINI, "-o", tmp_path, "--no-starts", "--join")
            assert code == 73
            assert str(os.getpid()) in said


def test_lock_of_a_killed_run_is_free(run, tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", "import sys, time; from pathlib import Path\n"
         "from conformergen.runtime.locks import exclusive\n"
         "with exclusive(Path(sys.argv[1])):\n print('held', flush=True); time.sleep(3600)", str(tmp_path / ".lock")],
        stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout.readline() == b"held\n"
    code, said = run("preprocess", MINI, "-o", tmp_path, "--max-confs", 1, "--no-starts")
    assert code == 73
    assert str(process.pid) in said
    process.kill()
    process.wait()
    assert run("preprocess", MINI, "-o", tmp_path, "--max-confs", 1, "--no-starts")[0] == 0


def test_temporaries_of_dead_runs_are_swept(run, tmp_path):
    (tmp_path / "shard-00000.h5.tmp-999999").write_bytes(b"half")
    (tmp_path / f"mine.tmp-{os.getpid()}").write_bytes(b"a living process")
    assert run("preprocess", MINI, "-o", tmp_path, "--max-confs", 1, "--no-starts")[0] == 0
    names = {p.name for p in tmp_path.iterdir()}
    assert "shard-00000.h5.tmp-999999" not in names
    assert f"mine.tmp-{os.getpid()}" in names


def test_folder_that_is_being_replaced_is_brought_back(run, tmp_path):
    """A kill between the two renames of a checkpoint that takes the place of another loses neither."""
    script = (
        "import sys; from pathlib import Path; from conformergen.checkpoint.folder import write_checkpoint\n"
        "write_checkpoint(Path(sys.argv[1]) / 'best', {'w': sys.argv[2].encode()})\n"
    )
    assert run(tmp_path, "first", script=script)[0] == 0
    assert run(tmp_path, "second", script=script, fault="folder.retired")[0] == -signal.SIGKILL
    assert not (tmp_path / "best").exists()
    sweep(tmp_path)
    assert (tmp_path / "best" / "w").read_bytes() == b"first"
    assert run(tmp_path, "second", script=script)[0] == 0
    sweep(tmp_path)
    assert (tmp_path / "best" / "w").read_bytes() == b"second"
    assert [p.name for p in tmp_path.iterdir()] == ["best"]


# --- paths -------------------------------------------------------------------------------------------------


def test_odd_paths_are_one_line_and_the_right_code(run, tmp_path):
    """F22."""
    loop = tmp_path / "loop.sdf"
    loop.symlink_to(loop)
    cases = {
        tmp_path / "none" / "out.sdf": 2,
        tmp_path / ("x" * 250 + ".sdf"): 74,
        tmp_path / "déjà vu ☂.sdf": 0,
        Path("/proc/out.sdf"): 74,
    }
    for path, wanted in cases.items():
        code, said = run("generate", "CCO", "-n", 1, "--method", "etkdg", "-o", path)
        assert code == wanted, (path, code, said)
        assert "Traceback" not in said
        assert len(said.strip().splitlines()) == 1
    for source in (tmp_path / "missing.smi", loop):
        code, said = run("generate", source, "-n", 1, "-o", tmp_path / "o.sdf")
        assert code in (1, 2, 74)
        assert "Traceback" not in said
    assert json.loads(run("generate", "CCO", "-n", 1, "--method", "etkdg", "-o", tmp_path / "a.sdf")[1])["done"] == 1
