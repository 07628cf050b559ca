"""Files appear whole or not at all: written under a temporary name, verified, synced, renamed.

A file has its own name only when it is complete. A run that is killed leaves temporary files, which the next run on the
same output removes. Named fault points let tests kill the process between any two of these steps.
"""

import hashlib
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

#: Environment variable for tests: ``CG_FAULT=NAME:N`` kills the process at the N-th crossing of the fault point NAME.
FAULT_VARIABLE: Final = "CG_FAULT"
#: Stands between the name of a file and the process id in a temporary name.
_MARK: Final = ".tmp-"
#: Prefix of the temporary name of a folder while a newer one takes its place.
_REPLACED: Final = "replaced-"
#: Suffix of a lock on one file of a folder that several runs share.
CLAIM: Final = ".claim"
#: How often each fault point has been crossed in this process.
_crossed: dict[str, int] = {}


def fault_point(name: str) -> None:
    """Mark a place where a test may kill the process."""
    wanted, _, count = os.environ.get(FAULT_VARIABLE, "").partition(":")
    if wanted == name:
        _crossed[name] = _crossed.get(name, 0) + 1
        if _crossed[name] == int(count or 1):
            os.kill(os.getpid(), signal.SIGKILL)


def temporary_name(path: Path) -> Path:
    """Name beside ``path`` that contains the id of the writing process."""
    return path.with_name(f"{path.name}{_MARK}{os.getpid()}")


def sync_folder(folder: Path) -> None:
    """Flush the directory entries of a folder to disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def committed(path: Path, *, verify: Callable[[Path], object] = lambda temporary: None) -> Iterator[Path]:
    """Yield a temporary name to write to; on leaving, verify, sync and rename it into place.

    Args:
        path: Name of the finished file.
        verify: Called with the written file; an exception leaves ``path`` as it was.
    """
    temporary = temporary_name(path)
    sweep(path.parent, prefix=path.name + _MARK)  # temporaries of runs that were killed on the same file
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
    """Write a whole file; arguments as ``committed``."""
    with committed(path, verify=verify) as temporary:
        temporary.write_bytes(data)


def write_json(path: Path, value: Any) -> None:
    """Write a value as an indented JSON file."""
    commit_bytes(path, (json.dumps(value, indent=1, sort_keys=False) + "\n").encode())


def json_digest(value: Any) -> str:
    """SHA-256 of a value that JSON can represent; the order of keys does not matter."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return (
            hashlib.file_digest(file, "sha256").hexdigest()
            if hasattr(hashlib, "file_digest")
            else hashlib.sha256(file.read()).hexdigest()
        )


def replace_folder(temporary: Path, folder: Path) -> None:
    """Put a finished folder in the place of an older one.

    After a kill between the two renames, ``sweep`` restores the older folder.
    """
    retired = temporary_name(folder.with_name(f"{_REPLACED}{folder.name}"))
    os.replace(folder, retired)
    fault_point("folder.retired")
    os.replace(temporary, folder)
    shutil.rmtree(retired)


def sweep(folder: Path, *, prefix: str = "") -> None:
    """Remove temporary files and claims that ended processes left behind, of names that begin with ``prefix``.

    Call it only while holding the lock of the output: then nobody else holds a claim.
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
