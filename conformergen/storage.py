"""How files come to be: written under a temporary name, verified, synced, renamed. And one run for each output.

A file has its own name only when it is whole; a run that is killed leaves temporaries, which the next run on the same
output removes. Named fault points let tests kill the process between any two of these steps.
"""

import fcntl
import hashlib
import json
import os
import shutil
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

from conformergen.errors import LockedError

#: ``CG_FAULT=NAME:N`` kills the process when it crosses the fault point NAME for the N-th time. For tests.
FAULT_VARIABLE: Final = "CG_FAULT"
_MARK: Final = ".tmp-"
#: Begins the temporary name of a folder while a newer one takes its place.
_REPLACED: Final = "replaced-"
#: Ends the name of a lock on one file of a folder that several runs share.
CLAIM: Final = ".claim"
#: Lock of an output folder.
LOCK: Final = ".lock"
_crossed: dict[str, int] = {}
First = TypeVar("First")
Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def fault_point(name: str) -> None:
    """A place where a test may kill the process."""
    wanted, _, count = os.environ.get(FAULT_VARIABLE, "").partition(":")
    if wanted == name:
        _crossed[name] = _crossed.get(name, 0) + 1
        if _crossed[name] == int(count or 1):
            os.kill(os.getpid(), signal.SIGKILL)


def temporary_name(path: Path) -> Path:
    """Name beside ``path`` that says which process writes it."""
    return path.with_name(f"{path.name}{_MARK}{os.getpid()}")


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def committed(path: Path, *, verify: Callable[[Path], object] = lambda temporary: None) -> Iterator[Path]:
    """Give a temporary name to write to; on leaving, verify, sync and rename it into place.

    Args:
        path: The file to be.
        verify: Looks at the written file; what it raises leaves ``path`` as it was.
    """
    temporary = temporary_name(path)
    sweep(path.parent, prefix=path.name + _MARK)  # of runs that were killed on the same file
    try:
        yield temporary
        fault_point("commit.written")
        verify(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        fault_point("commit.synced")
        os.replace(temporary, path)
        fault_point("commit.renamed")
        sync_folder(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def commit_bytes(path: Path, data: bytes, *, verify: Callable[[Path], object] = lambda temporary: None) -> None:
    """Write a whole file."""
    with committed(path, verify=verify) as temporary:
        temporary.write_bytes(data)


def json_digest(value: Any) -> str:
    """SHA-256 of a JSON-able value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def replace_folder(temporary: Path, folder: Path) -> None:
    """Rename a finished folder into the place of an older one; ``sweep`` brings that back after a kill in between."""
    retired = temporary_name(folder.with_name(f"{_REPLACED}{folder.name}"))
    os.replace(folder, retired)
    fault_point("folder.retired")
    os.replace(temporary, folder)
    shutil.rmtree(retired)


def sweep(folder: Path, *, prefix: str = "") -> None:
    """Remove temporaries and claims, of names that begin with ``prefix``, of processes that are gone.

    Under the lock of the output: nobody else holds a claim then.
    """
    for entry in folder.iterdir():
        if entry.name.startswith(prefix) and entry.name.endswith(CLAIM):
            entry.unlink(missing_ok=True)
            continue
        name, mark, pid = entry.name.rpartition(_MARK)
        if mark and entry.name.startswith(prefix) and pid.isdigit() and not _alive(int(pid)):
            place = folder / name.removeprefix(_REPLACED)
            if name.startswith(_REPLACED) and not place.exists():
                os.replace(entry, place)
            elif entry.is_dir():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                entry.unlink(missing_ok=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@contextmanager
def exclusive(lock: Path, *, wait: bool = False) -> Iterator[bool]:
    """Hold a lock file while working on an output; it is gone with the process, however that ends.

    Yields whether the last owner died with it: the file is there, and nobody holds it.

    Args:
        lock: The file.
        wait: Until it is free.

    Raises:
        LockedError: When another process holds it, with what that process is.
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

    Yields a function that tries to make the lock this run's alone, and says whether it is: of several runs that end,
    the last one gets it. Asked once; a run that did not get it holds nothing any more.

    Raises:
        LockedError: When another process holds it alone.
    """
    descriptor = _acquire(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    alone = False

    def take() -> bool:
        nonlocal alone
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        alone = True
        _sign(descriptor)
        return True

    try:
        yield take
    finally:
        if alone:
            lock.unlink(missing_ok=True)
        os.close(descriptor)


@dataclass(frozen=True)
class Ownership:
    """An output folder that is this run's, or that it shares.

    Attributes:
        alone: Asked once the units of this run are done; whoever is alone has removed the temporaries of dead runs.
        suspicious: Whether the last run here died, or may have: what killed it may come again.
    """

    alone: Callable[[], bool]
    suspicious: bool


@contextmanager
def output_folder(out: Path, *, join: bool = False) -> Iterator[Ownership]:
    """Own a folder, or with ``join`` share it.

    Raises:
        LockedError: When another run works on ``out`` and does not share it.
    """
    out.mkdir(parents=True, exist_ok=True)
    if join:
        with shared(out / LOCK) as take:

            def alone() -> bool:
                if mine := take():
                    sweep(out)
                return mine

            yield Ownership(alone, suspicious=True)
    else:
        with exclusive(out / LOCK) as abandoned:
            sweep(out)
            yield Ownership(lambda: True, suspicious=abandoned)


@contextmanager
def claimed(unit: Path) -> Iterator[bool]:
    """Claim a unit of work that is committed as ``unit``; false where another run is at it."""
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
    """Let ``function(first, out, ...)`` own the folder ``out`` while it runs.

    Under torchrun the first process holds the folder for all.
    """

    @wraps(function)
    def owning(first: First, out: Path, /, *args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        if int(os.environ.get("RANK", "0")):
            return function(first, out, *args, **kwargs)
        with output_folder(out):
            return function(first, out, *args, **kwargs)

    return owning


def _sign(descriptor: int) -> None:
    """Write into a lock file who holds it."""
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
