"""Fault injection: small by default, the full counts of docs/reliability.md with CG_FAULTS=full (``make faults``)."""

import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

FULL = os.environ.get("CG_FAULTS") == "full"


def cpu_seconds():
    """CPU time of this process and of its children that have ended; unlike wall time, others do not lengthen it."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


@pytest.fixture
def cpu_limit():
    """Context manager that fails when its block takes more seconds of CPU time than it is given."""

    @contextmanager
    def limit(seconds):
        began = cpu_seconds()
        yield
        assert cpu_seconds() - began < seconds

    return limit


@pytest.fixture(scope="session")
def times():
    """Number of repeats: (in CI, in full)."""
    return lambda small, full: full if FULL else small


class Runner:
    """Runs commands and scripts, each in a process of its own forked by ``helpers/fork_server.py``."""

    def __init__(self):
        self._fork_server = subprocess.Popen(
            [sys.executable, Path(__file__).parent / "helpers" / "fork_server.py"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip

    def __call__(self, *arguments, timeout=3600.0, **how):
        """Exit status and stderr of a ``conformergen`` command."""
        answer = self._ask(arguments, timeout, **how)
        assert not answer["interrupted"], f"{arguments} took over {timeout} s"
        return answer["code"], answer["stderr"]

    def killed(self, *arguments, after, **how):
        """Kill a command after some seconds; whether it was still running."""
        return self._ask(arguments, after, **how)["interrupted"]

    def terminated(self, *arguments, after, **how):
        """Send SIGTERM to a command after some seconds; exit status and stderr."""
        answer = self._ask(arguments, after, number=signal.SIGTERM, **how)
        return answer["code"], answer["stderr"]

    def _ask(self, arguments, seconds, *, number=signal.SIGKILL, script="", fault="", file_limit=None, cwd=None):
        task = {
            "arguments": [str(a) for a in arguments], "script": script, "fault": fault, "signal": int(number),
            "file_limit": file_limit, "cwd": cwd and str(cwd), "seconds": seconds,
        }  # fmt: skip
        self._fork_server.stdin.write(json.dumps(task) + "\n")
        self._fork_server.stdin.flush()
        return json.loads(self._fork_server.stdout.readline())

    def close(self):
        self._fork_server.stdin.close()
        self._fork_server.wait()


@pytest.fixture(scope="session")
def run():
    """A ``Runner``."""
    runner = Runner()
    yield runner
    runner.close()


@pytest.fixture(scope="session")
def digests():
    """SHA-256 of every file below a folder, by relative path; temporaries and locks must not be there."""

    def of(folder, ignore=()):
        found = {}
        for path in sorted(Path(folder).rglob("*")):
            name = str(path.relative_to(folder))
            if path.is_file() and not any(part in name for part in ignore):
                assert ".tmp-" not in name, name
                assert not name.endswith(".lock"), name
                found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        return found

    return of
