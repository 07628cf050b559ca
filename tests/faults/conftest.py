"""Fault injection: small by default, the full counts of docs/reliability.md with CG_FAULTS=full (``make faults``)."""

import hashlib
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

FULL = os.environ.get("CG_FAULTS") == "full"


@pytest.fixture(scope="session")
def times():
    """Number of repeats: (in CI, in full)."""
    return lambda small, full: full if FULL else small


@pytest.fixture(scope="session")
def run():
    """One conformergen command in a process of its own; its exit status and stderr."""

    def call(*arguments, fault="", file_limit=None, cwd=None, timeout=300):
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        environment.pop("CG_FAULT", None)
        if fault:
            environment["CG_FAULT"] = fault

        def limit():
            if file_limit is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))

        done = subprocess.run(
            [sys.executable, "-m", "conformergen", *map(str, arguments)],
            env=environment, capture_output=True, text=True, timeout=timeout, cwd=cwd, preexec_fn=limit,
        )  # fmt: skip
        return done.returncode, done.stderr

    return call


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
