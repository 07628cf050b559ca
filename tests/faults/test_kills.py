"""F1-F3, F18: a run killed at any moment, and run again, ends in the bytes of one that was not."""

import itertools
import json
import random
import signal
import subprocess
import sys
import time

import pytest

from conformergen.refinement import xtb

SMILES = [f"{'C' * (1 + i % 4)}{a}{'C' * (1 + i % 3)}" for i, a in itertools.product(range(40), ("O", "N", "S"))]
#: Every step of a commit, and how often a run of these tests crosses it.
COMMIT = [f"commit.{step}:{n}" for step in ("written", "synced", "renamed") for n in (1, 2, 3)]


@pytest.fixture(scope="module")
def smiles(tmp_path_factory):
    path = tmp_path_factory.mktemp("in") / "in.smi"
    path.write_text("".join(f"{s} m{i}\n" for i, s in enumerate(SMILES)))
    return path


@pytest.fixture(scope="module")
def conformers(smiles, run, tmp_path_factory):
    """SDF with conformers of the molecules, for preprocess."""
    path = tmp_path_factory.mktemp("sdf") / "ref.sdf"
    assert run("generate", smiles, "-n", 2, "--method", "etkdg", "-o", path)[0] == 0
    return path


def _kill_at_random(command, rng, longest):
    """Start a command and kill it after a random time; whether it was still running."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(rng.uniform(0.0, longest))
    alive = process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    return alive


class TestGenerate:
    """F3."""

    @pytest.fixture(scope="class")
    def whole(self, smiles, run, tmp_path_factory):
        out = tmp_path_factory.mktemp("whole") / "out.sdf"
        began = time.monotonic()
        assert run(*self.command(smiles, out))[0] == 0
        return out.read_bytes(), time.monotonic() - began

    def command(self, smiles, out):
        return ["generate", smiles, "-n", 3, "--method", "etkdg+mmff94s", "-o", out, "--resume"]

    @pytest.mark.parametrize(
        "fault",
        [f for f in COMMIT if f.endswith((":1", ":2"))] + ["generate.block:1", "generate.block:2", "generate.closed:1"],
    )
    def test_every_fault_point(self, smiles, whole, run, tmp_path, fault):
        command = self.command(smiles, tmp_path / "out.sdf")
        code, _ = run(*command, fault=fault)
        assert code == -signal.SIGKILL
        assert (tmp_path / "out.sdf").exists() == (fault == "generate.closed:1")
        assert run(*command)[0] == 0
        assert (tmp_path / "out.sdf").read_bytes() == whole[0]
        assert [p.name for p in tmp_path.iterdir()] == ["out.sdf"]

    def test_random_moments(self, smiles, whole, run, tmp_path, times):
        rng = random.Random(0)
        command = self.command(smiles, tmp_path / "out.sdf")
        full = [sys.executable, "-m", "conformergen", *map(str, command)]
        for _ in range(times(12, 500)):
            killed = 0
            while killed < 2 and _kill_at_random(full, rng, whole[1]):
                killed += 1
            assert run(*command)[0] == 0
            assert (tmp_path / "out.sdf").read_bytes() == whole[0]
            (tmp_path / "out.sdf").unlink()

    def test_terminated_run_says_so_and_resumes(self, smiles, whole, run, tmp_path):
        """F18: 143 within seconds, then the same bytes."""
        command = self.command(smiles, tmp_path / "out.sdf")
        process = subprocess.Popen(
            [sys.executable, "-m", "conformergen", *map(str, command)], stderr=subprocess.PIPE, text=True
        )
        while not (tmp_path / "out.sdf.progress").exists() and process.poll() is None:
            time.sleep(0.005)
        process.terminate()
        _, said = process.communicate(timeout=10)
        assert process.returncode == 143
        assert said.strip().splitlines()[-1] == "conformergen: error: terminated"
        assert run(*command)[0] == 0
        assert (tmp_path / "out.sdf").read_bytes() == whole[0]


class TestPreprocess:
    """F1: shards of 30 molecules each, through the function because the command has no option for so small ones."""

    def script(self, source, out):
        return [
            sys.executable,
            "-c",
            "import sys; from pathlib import Path\n"
            "from conformergen.workflows.preprocess import PreprocessSettings, preprocess\n"
            "preprocess([Path(sys.argv[1])], Path(sys.argv[2]), "
            "PreprocessSettings(split='random', seeds=None, molecules_per_shard=30))",
            str(source),
            str(out),
        ]

    @pytest.fixture(scope="class")
    def whole(self, conformers, digests, tmp_path_factory):
        out = tmp_path_factory.mktemp("whole")
        began = time.monotonic()
        subprocess.run(self.script(conformers, out), check=True, capture_output=True)
        return digests(out), time.monotonic() - began

    @pytest.mark.parametrize("fault", COMMIT)
    def test_every_fault_point(self, conformers, whole, digests, tmp_path, monkeypatch, fault):
        monkeypatch.setenv("CG_FAULT", fault)
        assert (
            subprocess.run(self.script(conformers, tmp_path / "o"), capture_output=True).returncode == -signal.SIGKILL
        )
        monkeypatch.delenv("CG_FAULT")
        subprocess.run(self.script(conformers, tmp_path / "o"), check=True, capture_output=True)
        assert digests(tmp_path / "o") == whole[0]

    def test_random_moments(self, conformers, whole, digests, tmp_path, times):
        rng = random.Random(1)
        for i in range(times(12, 500)):
            script = self.script(conformers, tmp_path / str(i))
            _kill_at_random(script, rng, whole[1])
            subprocess.run(script, check=True, capture_output=True)
            assert digests(tmp_path / str(i)) == whole[0]


@pytest.mark.skipif(not xtb.available(), reason="the xtb program is not installed")
class TestReference:
    """A search that takes seconds, of six molecules."""

    def script(self, out):
        text = (
            "import sys; from pathlib import Path\n"
            "from conformergen.datasets.inputs import InputRecord\n"
            "from conformergen.workflows.make_reference import make_reference\n"
            "from conformergen.workflows.reference import ReferenceSettings\n"
            "texts = ['CCCCO', 'CC(C)O', 'CCOC', 'CCNC', 'CCCF', 'CC(=O)N']\n"
            "records = [InputRecord(index=i, smiles=s, name=str(i)) for i, s in enumerate(texts)]\n"
            "small = dict(min_starts=4, max_starts=4, md_runs=1, md_ps=0.5, max_crude=4, max_final=3)\n"
            "make_reference(records, Path(sys.argv[1]), ReferenceSettings.lean(engine='xtb', **small), seed=3)"
        )
        return [sys.executable, "-c", text, str(out)]

    @pytest.fixture(scope="class")
    def whole(self, digests, tmp_path_factory):
        out = tmp_path_factory.mktemp("whole")
        began = time.monotonic()
        subprocess.run(self.script(out), check=True, capture_output=True)
        return self.content(digests, out), time.monotonic() - began

    def content(self, digests, out):
        """Of everything but the books and units, which hold CPU seconds."""
        return digests(out, ignore=("books.json", "units"))

    @pytest.mark.parametrize("fault", ["commit.written:2", "commit.synced:3", "commit.renamed:6", "commit.renamed:7"])
    def test_every_fault_point(self, whole, digests, tmp_path, monkeypatch, fault):
        monkeypatch.setenv("CG_FAULT", fault)
        assert subprocess.run(self.script(tmp_path), capture_output=True).returncode == -signal.SIGKILL
        monkeypatch.delenv("CG_FAULT")
        subprocess.run(self.script(tmp_path), check=True, capture_output=True)
        assert self.content(digests, tmp_path) == whole[0]

    def test_random_moments(self, whole, digests, tmp_path, times):
        rng = random.Random(2)
        for i in range(times(3, 100)):
            _kill_at_random(self.script(tmp_path / str(i)), rng, whole[1])
            subprocess.run(self.script(tmp_path / str(i)), check=True, capture_output=True)
            assert self.content(digests, tmp_path / str(i)) == whole[0]


class TestEvaluate:
    """A report is there or not; it is made anew from the same inputs."""

    def command(self, conformers, out):
        out.mkdir(exist_ok=True)
        return ["evaluate", conformers, "--reference", conformers, "-o", out / "r.json", "--csv", out / "r.csv"]

    def content(self, out, ignore="nothing"):
        return {p.name: p.read_bytes() for p in out.glob("*") if ignore not in p.name}

    def test_random_moments(self, conformers, run, tmp_path, times):
        began = time.monotonic()
        assert run(*self.command(conformers, tmp_path / "whole"))[0] == 0
        longest = time.monotonic() - began
        whole = self.content(tmp_path / "whole")
        assert sorted(whole) == ["r.csv", "r.json"]
        rng = random.Random(4)
        for i in range(times(3, 100)):
            command = self.command(conformers, tmp_path / str(i))
            _kill_at_random([sys.executable, "-m", "conformergen", *map(str, command)], rng, longest)
            assert self.content(tmp_path / str(i), ignore=".tmp-").items() <= whole.items()
            assert run(*command)[0] == 0
            assert self.content(tmp_path / str(i)) == whole


class TestTrain:
    """F2: weights, moments, average and levels bit-equal; each step logged once."""

    @pytest.fixture(scope="class")
    def shards(self, conformers, run, tmp_path_factory):
        out = tmp_path_factory.mktemp("shards") / "s"
        assert run("preprocess", conformers, "-o", out, "--split", "random")[0] == 0
        return out

    def command(self, shards, out):
        small = ["steps=12", "checkpoint_every=4", "validate_every=6", "warmup=2", "log_every=1", "pair_budget=4000"]
        return ["train", "--data", shards, "-o", out, "--preset", "tiny", "--resume", *itertools.chain.from_iterable(
            ("--set", f"training.{s}") for s in small
        )]  # fmt: skip

    @pytest.fixture(scope="class")
    def whole(self, shards, run, tmp_path_factory):
        out = tmp_path_factory.mktemp("whole")
        code, said = run(*self.command(shards, out))
        assert code == 0, said
        return out

    @pytest.mark.parametrize(
        "fault", ["checkpoint.file:2", "checkpoint.file:5", "checkpoint.renamed:1", "checkpoint.renamed:2"]
    )
    def test_every_fault_point(self, shards, whole, run, digests, tmp_path, fault):
        command = self.command(shards, tmp_path / "run")
        assert run(*command, fault=fault)[0] == -signal.SIGKILL
        code, said = run(*command)
        assert code == 0, said
        weights = [
            {k: v for k, v in digests(f).items() if k.endswith(".safetensors")} for f in (whole, tmp_path / "run")
        ]
        assert weights[0] == weights[1]
        assert len(weights[0]) >= 2
        lines = (tmp_path / "run" / "metrics.csv").read_text().splitlines()
        steps = [line.split(",")[0] for line in lines[1:]]
        assert steps == sorted(set(steps), key=int)

    def test_signals_write_a_checkpoint(self, shards, tmp_path):
        """F18: SIGUSR1 writes one and goes on, SIGTERM writes one and leaves with 143; then equal."""
        command = [sys.executable, "-m", "conformergen", *map(str, self.command(shards, tmp_path / "run"))]
        slow = [*command, "--set", "training.steps=100000", "--set", "training.checkpoint_every=100000"]
        process = subprocess.Popen(slow, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

        def checkpoints(at_least):
            deadline = time.monotonic() + 60
            while len(found := list((tmp_path / "run").glob("ckpt-*[0-9]"))) < at_least:
                assert time.monotonic() < deadline
                assert process.poll() is None
                time.sleep(0.02)
            return found

        while not (tmp_path / "run" / "metrics.csv").exists() and process.poll() is None:
            time.sleep(0.02)
        for i in range(2):
            process.send_signal(signal.SIGUSR1)
            checkpoints(i + 1)
        process.terminate()
        assert process.wait(timeout=10) == 143
        assert len(list((tmp_path / "run").glob("ckpt-*"))) >= 2

    def test_terminated_run_resumes_equal(self, shards, whole, digests, tmp_path):
        """F18: 143, and the same weights as an uninterrupted run."""
        command = [sys.executable, "-m", "conformergen", *map(str, self.command(shards, tmp_path / "run"))]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        metrics = tmp_path / "run" / "metrics.csv"
        while not (metrics.exists() and metrics.read_text().count("\n") > 2) and process.poll() is None:
            time.sleep(0.005)
        process.terminate()
        assert process.wait(timeout=10) in (0, 143)
        subprocess.run(command, check=True, capture_output=True)
        weights = [
            {k: v for k, v in digests(f).items() if k.startswith("ckpt-00000012") and k.endswith(".safetensors")}
            for f in (whole, tmp_path / "run")
        ]
        assert weights[0] == weights[1]
        assert len(weights[0]) == 2


def test_journal_is_the_truth(smiles, run, tmp_path):
    """A block that is in the file but not in the journal is made again, and never doubled."""
    out = tmp_path / "out.sdf"
    command = ["generate", smiles, "-n", 1, "--method", "etkdg", "-o", out, "--resume"]
    assert run(*command, fault="generate.block:2")[0] == -signal.SIGKILL
    journal = json.loads((tmp_path / "out.sdf.progress").read_text())["progress"]
    assert (tmp_path / "out.sdf.partial").stat().st_size > journal["written"]
    assert run(*command)[0] == 0
    titles = [line for i, line in enumerate(out.read_text().split("$$$$\n")) if line]
    assert len(titles) == len(SMILES)
