"""One run for each output: lock files that end with their process, and claims on single units of work."""

import fcntl
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Concatenate, Final, ParamSpec, TypeVar

from conformergen.errors import LockedError
from conformergen.runtime.files import CLAIM, sweep

#: Lock file of an output folder.
LOCK: Final = ".lock"
First = TypeVar("First")
Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


@contextmanager
def exclusive(lock: Path, *, wait: bool = False) -> Iterator[bool]:
    """Hold a lock file while working on an output; the lock ends with the process, however that ends.

    Yields whether the previous owner died: its file is there, but nobody holds it.

    Args:
        lock: The lock file.
        wait: Wait until the lock is free instead of raising.

    Raises:
        LockedError: When another process holds the lock; the message describes that process.
    """
    descriptor = _acquire(lock, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    try:
        abandoned = os.fstat(descriptor).st_size > 0
        _sign(descriptor)
        yield abandoned
    finally:
        lock.unlink(missing_ok=True)
        os.close(descriptor)


@contextmanager
def shared(lock: Path) -> Iterator[Callable[[], bool]]:
    """Hold a lock file together with other runs that do the same.

    Yields a function that tries to turn the shared lock into an exclusive one and returns whether it succeeded: of
    several runs that end, the last one succeeds. Call it at most once. On failure the shared lock has been released.

    Raises:
        LockedError: When another process holds the lock exclusively.
    """
    descriptor = _acquire(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    is_last = False

    def take() -> bool:
        nonlocal is_last
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        is_last = True
        _sign(descriptor)
        return True

    try:
        yield take
    finally:
        if is_last:
            lock.unlink(missing_ok=True)
        os.close(descriptor)


@dataclass(frozen=True)
class Ownership:
    """How a run holds its output folder: alone, or together with other runs.

    Attributes:
        is_last: Call it once, when the units of this run are done. It returns whether all other runs have ended; if so,
            the temporary files of dead runs have been removed.
        previous_run_died: Whether the last run on this folder died or may have died, so that the cause may recur.
    """

    is_last: Callable[[], bool]
    previous_run_died: bool


@contextmanager
def output_folder(out: Path, *, join: bool = False) -> Iterator[Ownership]:
    """Own a folder while working on it, or share it with other runs that ``join``.

    Raises:
        LockedError: When another run works on ``out`` and does not share it.
    """
    out.mkdir(parents=True, exist_ok=True)
    if join:
        with shared(out / LOCK) as take:

            def is_last() -> bool:
                if mine := take():
                    sweep(out)
                return mine

            yield Ownership(is_last, previous_run_died=True)
    else:
        with exclusive(out / LOCK) as abandoned:
            sweep(out)
            yield Ownership(lambda: True, previous_run_died=abandoned)


@contextmanager
def claimed(unit: Path) -> Iterator[bool]:
    """Claim the unit of work that will be committed as ``unit``; yields False while another run works on it."""
    claim = unit.with_name(unit.name + CLAIM)
    try:
        descriptor = _acquire(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except LockedError:
        yield False
        return
    try:
        yield True
    finally:
        claim.unlink(missing_ok=True)
        os.close(descriptor)


def exclusive_output(
    function: Callable[Concatenate[First, Path, Parameters], Result],
) -> Callable[Concatenate[First, Path, Parameters], Result]:
    """Decorate ``function(first, out, ...)`` so that it owns the folder ``out`` while it runs.

    Under torchrun the first process holds the folder for all processes.
    """

    @wraps(function)
    def owning(first: First, out: Path, /, *args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        if int(os.environ.get("RANK", "0")):
            return function(first, out, *args, **kwargs)
        with output_folder(out):
            return function(first, out, *args, **kwargs)

    return owning


def _sign(descriptor: int) -> None:
    """Write the host, process id and start time of the owner into a lock file."""
    began = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "since": began}).encode(), 0)


def _acquire(lock: Path, kind: int) -> int:
    while True:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, kind)
        except OSError:
            owner = os.read(descriptor, 500).decode(errors="replace").strip() or "that shares it with others"
            os.close(descriptor)
            raise LockedError(f"{lock} is held by another run {owner}") from None
        # The file may have been removed by its last owner between opening and locking it.
        if lock.exists() and os.fstat(descriptor).st_ino == lock.stat().st_ino:
            return descriptor
        os.close(descriptor)
