"""F1-F3, F18: a run killed at any moment, and run again, ends in the bytes of one that was not."""

import itertools
import json
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest

from conformergen.refinement import xtb

SMILES = [f"{'C' * (1 + i % 4)}{a}{'C' * (1 + i % 3)}" for i, a in itertools.product(range(40), ("O", "N", "S"))]
#: Every step of a commit, and how often a run of these tests crosses it.
COMMIT = [f"commit.{step}:{n}" for step in ("written", "synced", "renamed") for n in (1, 3)]

#: Exit of a run that is sent SIGTERM: done, stopped, or gone before it had its handlers.
ENDED = (0, 143, -signal.SIGTERM)


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
        [f for f in COMMIT if f.endswith(":1")] + ["generate.block:1", "generate.block:2", "generate.closed:1"],
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
        """Up to two kills in a row."""
        rng = random.Random(0)
        command = self.command(smiles, tmp_path / "out.sdf")
        for _ in range(times(5, 500)):
            killed = 0
            while killed < 2 and run.killed(*command, after=rng.uniform(0, whole[1])):
                killed += 1
            assert run(*command)[0] == 0
            assert (tmp_path / "out.sdf").read_bytes() == whole[0]
            (tmp_path / "out.sdf").unlink()

    @pytest.mark.parametrize("how", ["always", "once"])
    def test_molecule_that_kills_the_process_is_isolated_by_the_next_run(self, smiles, whole, run, tmp_path, how):
        """F4: with one job it takes the program down, once; the run that goes on records it and loses no other."""
        command = self.command(smiles, tmp_path / "out.sdf")
        poison = "molecule.m70"
        assert run(*command, fault=poison)[0] == -signal.SIGKILL
        if how == "once":
            assert run(*command)[0] == 0
            assert (tmp_path / "out.sdf").read_bytes() == whole[0]
            return
        assert run(*command, fault=poison)[0] == 1
        failures = [json.loads(x) for x in (tmp_path / "out.sdf.failures.jsonl").read_text().splitlines()]
        assert [(f["name"], f["reason"]) for f in failures] == [("m70", "crash")]
        records = whole[0].decode().split("$$$$\n")
        assert (tmp_path / "out.sdf").read_text() == "$$$$\n".join(r for r in records if not r.startswith("m70\n"))

    def test_terminated_run_says_so_and_resumes(self, smiles, whole, run, tmp_path):
        """F18: Exit status 143, then the same bytes."""
        command = self.command(smiles, tmp_path / "out.sdf")
        process = subprocess.Popen(
            [sys.executable, "-m", "conformergen", *map(str, command)], stderr=subprocess.PIPE, text=True
        )
        while not (tmp_path / "out.sdf.progress").exists() and process.poll() is None:
            time.sleep(0.005)
        process.terminate()
        _, said = process.communicate(timeout=600)
        assert process.returncode == 143
        assert said.strip().splitlines()[-1] == "conformergen: error: terminated"
        assert run(*command)[0] == 0
        assert (tmp_path / "out.sdf").read_bytes() == whole[0]

    def test_terminated_at_a_random_moment(self, smiles, whole, run, tmp_path, times):
        """F18."""
        rng = random.Random(6)
        command = self.command(smiles, tmp_path / "out.sdf")
        for _ in range(times(5, 500)):
            code, said = run.terminated(*command, after=rng.uniform(0.1, whole[1]))
            assert code in ENDED, said
            if code == 143:
                assert said.strip().splitlines()[-1] == "conformergen: error: terminated"
            if code:
                assert run(*command)[0] == 0
            assert (tmp_path / "out.sdf").read_bytes() == whole[0]
            (tmp_path / "out.sdf").unlink()

    def test_worker_killed_at_a_random_moment(self, smiles, whole, run, tmp_path, times):
        """F4: the molecule it was at is tried again."""
        script = (
            "import multiprocessing, os, random, signal, sys, threading, time\n"
            "from conformergen.cli import app\n"
            "def kill():\n"
            "    time.sleep(float(sys.argv.pop()))\n"
            "    workers = multiprocessing.active_children()\n"
            "    if workers: os.kill(random.choice(workers).pid, random.choice([signal.SIGKILL, signal.SIGSEGV]))\n"
            "thread = threading.Thread(target=kill, daemon=True)\n"
            "thread.start()\n"
            "time.sleep(0.01)\n"
            "app()"
        )
        rng = random.Random(7)
        for _ in range(times(5, 500)):
            code, said = run(
                *self.command(smiles, tmp_path / "out.sdf"), "--jobs", 2, rng.uniform(0.3, 2.5), script=script
            )
            assert code == 0, said
            assert (tmp_path / "out.sdf").read_bytes() == whole[0]
            (tmp_path / "out.sdf").unlink()


class TestPreprocess:
    """F1: shards of 30 molecules each, through the function because the command has no option for so small ones."""

    SCRIPT = (
        "import sys; from pathlib import Path\n"
        "from conformergen.commands.preprocess import PreprocessSettings, preprocess\n"
        "settings = PreprocessSettings(split='random', starts=None, molecules_per_shard=30)\n"
        "print(preprocess([Path(sys.argv[1])], Path(sys.argv[2]), settings), file=sys.stderr)"
    )

    @pytest.fixture(scope="class")
    def whole(self, conformers, run, digests, tmp_path_factory):
        out = tmp_path_factory.mktemp("whole")
        began = time.monotonic()
        assert run(conformers, out, script=self.SCRIPT)[0] == 0
        return digests(out), time.monotonic() - began

    @pytest.mark.parametrize("fault", COMMIT)
    def test_every_fault_point(self, conformers, whole, run, digests, tmp_path, fault):
        assert run(conformers, tmp_path / "o", script=self.SCRIPT, fault=fault)[0] == -signal.SIGKILL
        assert run(conformers, tmp_path / "o", script=self.SCRIPT)[0] == 0
        assert digests(tmp_path / "o") == whole[0]

    def test_random_moments(self, conformers, whole, run, digests, tmp_path, times):
        """Up to two kills in a row."""
        rng = random.Random(1)
        for i in range(times(5, 500)):
            killed = 0
            while killed < 2 and run.killed(
                conformers, tmp_path / str(i), script=self.SCRIPT, after=rng.uniform(0, whole[1])
            ):
                killed += 1
            assert run(conformers, tmp_path / str(i), script=self.SCRIPT)[0] == 0
            assert digests(tmp_path / str(i)) == whole[0]
            shutil.rmtree(tmp_path / str(i))

    def test_molecule_that_kills_the_process_is_isolated_by_the_next_run(self, conformers, run, tmp_path):
        """F4: as for generate."""
        poison = "molecule.m70"
        assert run(conformers, tmp_path, script=self.SCRIPT, fault=poison)[0] == -signal.SIGKILL
        code, said = run(conformers, tmp_path, script=self.SCRIPT, fault=poison)
        assert code == 0
        assert f"done={len(SMILES) - 1}, failed=1" in said
        units = json.loads((tmp_path / "manifest.json").read_text())["shards"]
        assert [f["reason"] for unit in units for f in unit["failures"]] == ["crash"]


@pytest.mark.skipif(not xtb.available(), reason="the xtb program is not installed")
class TestReference:
    """A search that takes a second, of three molecules."""

    SCRIPT = (
        "import sys; from pathlib import Path\n"
        "from conformergen.io.inputs import InputRecord\n"
        "from conformergen.commands.reference import make_reference\n"
        "from conformergen.reference.settings import ReferenceSettings\n"
        "texts = ['CCCCO', 'CCOC', 'CC(=O)N']\n"
        "records = [InputRecord(index=i, smiles=s, name=str(i)) for i, s in enumerate(texts)]\n"
        "small = dict(min_starts=4, max_starts=4, md_runs=1, md_ps=0.5, max_crude=4, max_final=3)\n"
        "make_reference(records, Path(sys.argv[1]), ReferenceSettings.lean(engine='xtb', **small), seed=3)"
    )

    @pytest.fixture(scope="class")
    def whole(self, run, digests, tmp_path_factory):
        out = tmp_path_factory.mktemp("whole")
        began = time.monotonic()
        assert run(out, script=self.SCRIPT)[0] == 0
        return self.content(digests, out), time.monotonic() - began

    def content(self, digests, out):
        """Of everything but the statistics and units, which hold CPU seconds."""
        return digests(out, ignore=("search_stats.json", "units"))

    @pytest.mark.parametrize("fault", ["commit.written:2", "commit.synced:3", "commit.renamed:4", "commit.renamed:5"])
    def test_every_fault_point(self, whole, run, digests, tmp_path, fault):
        assert run(tmp_path, script=self.SCRIPT, fault=fault)[0] == -signal.SIGKILL
        assert run(tmp_path, script=self.SCRIPT)[0] == 0
        assert self.content(digests, tmp_path) == whole[0]

    @pytest.mark.parametrize("limit", [0, 1_000, 5_000])
    def test_full_disk(self, whole, run, digests, tmp_path, limit):
        """F6: of xtb's files and of ours."""
        code, said = run(tmp_path, script=self.SCRIPT, file_limit=limit)
        assert code == 70, said
        assert "OSError" in said.splitlines()[-1]
        assert not list(tmp_path.glob("*.h5"))
        assert run(tmp_path, script=self.SCRIPT)[0] == 0
        assert self.content(digests, tmp_path) == whole[0]

    def test_random_moments(self, whole, run, digests, tmp_path, times):
        rng = random.Random(2)
        for i in range(times(3, 500)):
            run.killed(tmp_path / str(i), script=self.SCRIPT, after=rng.uniform(0, whole[1]))
            assert run(tmp_path / str(i), script=self.SCRIPT)[0] == 0
            assert self.content(digests, tmp_path / str(i)) == whole[0]
            shutil.rmtree(tmp_path / str(i))


class TestEvaluate:
    """A report is there or not; it is made anew from the same inputs."""

    def command(self, conformers, out):
        out.mkdir(exist_ok=True)
        return ["evaluate", conformers, "--reference", conformers, "-o", out / "r.json", "--csv", out / "r.csv"]

    def content(self, out, ignore="nothing"):
        return {p.name: p.read_bytes() for p in out.glob("*") if ignore not in p.name}

    @pytest.mark.parametrize("limit", [0, 1_000])
    def test_full_disk(self, conformers, run, tmp_path, limit):
        """F6."""
        command = self.command(conformers, tmp_path / "o")
        code, said = run(*command, file_limit=limit)
        assert code == 74, said
        assert len(said.strip().splitlines()) == 1
        assert self.content(tmp_path / "o") == {}
        assert run(*command)[0] == 0

    def test_random_moments(self, conformers, run, tmp_path, times):
        began = time.monotonic()
        assert run(*self.command(conformers, tmp_path / "whole"))[0] == 0
        longest = time.monotonic() - began
        whole = self.content(tmp_path / "whole")
        assert sorted(whole) == ["r.csv", "r.json"]
        rng = random.Random(4)
        for i in range(times(5, 500)):
            command = self.command(conformers, tmp_path / str(i))
            run.killed(*command, after=rng.uniform(0, longest))
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
        began = time.monotonic()
        code, said = run(*self.command(shards, out))
        assert code == 0, said
        return out, time.monotonic() - began

    def assert_equal(self, out, whole, digests):
        """Weights, moments and average of each checkpoint that is kept; the levels are among them."""
        weights = [{k: v for k, v in digests(f).items() if k.endswith(".safetensors")} for f in (whole, out)]
        assert weights[0] == weights[1]
        assert len(weights[0]) >= 2
        lines = (out / "metrics.csv").read_text().splitlines()
        steps = [line.split(",")[0] for line in lines[1:]]
        assert steps == sorted(set(steps), key=int)

    @pytest.mark.parametrize(
        "fault", ["checkpoint.file:2", "checkpoint.file:5", *(f"checkpoint.renamed:{n}" for n in range(1, 5))]
    )
    def test_every_fault_point(self, shards, whole, run, digests, tmp_path, fault):
        command = self.command(shards, tmp_path / "run")
        assert run(*command, fault=fault)[0] == -signal.SIGKILL
        code, said = run(*command)
        assert code == 0, said
        self.assert_equal(tmp_path / "run", whole[0], digests)

    def test_random_moments(self, shards, whole, run, digests, tmp_path, times):
        """Up to two kills in a row."""
        rng = random.Random(5)
        for i in range(times(3, 200)):
            command = self.command(shards, tmp_path / str(i))
            killed = 0
            while killed < 2 and run.killed(*command, after=rng.uniform(0, whole[1])):
                killed += 1
            code, said = run(*command)
            assert code == 0, said
            self.assert_equal(tmp_path / str(i), whole[0], digests)
            shutil.rmtree(tmp_path / str(i))

    @pytest.mark.parametrize("limit", [0, 2_000, 50_000])
    def test_full_disk(self, shards, whole, run, digests, tmp_path, limit):
        """F6."""
        command = self.command(shards, tmp_path / "run")
        code, said = run(*command, file_limit=limit)
        assert code == 74, said
        assert said.strip().splitlines()[-1].startswith("conformergen: error:")
        assert "Traceback" not in said
        assert not list((tmp_path / "run").glob("ckpt-*"))
        assert run(*command)[0] == 0
        self.assert_equal(tmp_path / "run", whole[0], digests)

    def test_signals_write_a_checkpoint(self, shards, tmp_path):
        """F18: SIGUSR1 writes one and goes on, SIGTERM writes one and leaves with 143; then equal."""
        command = [sys.executable, "-m", "conformergen", *map(str, self.command(shards, tmp_path / "run"))]
        slow = [*command, "--set", "training.steps=100000", "--set", "training.checkpoint_every=100000"]
        process = subprocess.Popen(slow, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

        def checkpoints(at_least):
            deadline = time.monotonic() + 600
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
        assert process.wait(timeout=600) == 143
        assert len(list((tmp_path / "run").glob("ckpt-*"))) >= 2

    def assert_ends_equal(self, out, whole, digests):
        """The last checkpoint; a signal writes one more, so that others are kept."""
        weights = [
            {k: v for k, v in digests(f).items() if k.startswith("ckpt-00000012") and k.endswith(".safetensors")}
            for f in (whole, out)
        ]
        assert weights[0] == weights[1]
        assert len(weights[0]) == 2

    def test_terminated_run_resumes_equal(self, shards, whole, digests, tmp_path):
        """F18: 143, and the same weights as an uninterrupted run."""
        command = [sys.executable, "-m", "conformergen", *map(str, self.command(shards, tmp_path / "run"))]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        metrics = tmp_path / "run" / "metrics.csv"
        while not (metrics.exists() and metrics.read_text().count("\n") > 2) and process.poll() is None:
            time.sleep(0.005)
        process.terminate()
        assert process.wait(timeout=600) in (0, 143)
        subprocess.run(command, check=True, capture_output=True)
        self.assert_ends_equal(tmp_path / "run", whole[0], digests)

    def test_terminated_at_a_random_moment(self, shards, whole, run, digests, tmp_path, times):
        """F18."""
        rng = random.Random(8)
        for i in range(times(3, 200)):
            command = self.command(shards, tmp_path / str(i))
            code, said = run.terminated(*command, after=rng.uniform(0.1, whole[1]))
            assert code in ENDED, said
            assert run(*command)[0] == 0
            self.assert_ends_equal(tmp_path / str(i), whole[0], digests)
            shutil.rmtree(tmp_path / str(i))


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
