"""A disposable process that parses files which may be hostile: pickles, archives, HDF5.

Its own limits on memory and CPU time hold; what it dies or hangs on is refused, and the next file gets a new one.
"""

import atexit
import io
import json
import os
import select
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final

import numpy as np

from conformergen.errors import DataError

_MAX_ANSWER: Final = 2**31
#: Seconds for a file: at least, and for each MB of it.
_SECONDS: Final = (60.0, 2.0)
#: Seconds that a child has to leave by itself.
_GRACE: Final = 1.0


class ReaderChild:
    """One child process for many files; a file that kills it costs only itself."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> "ReaderChild":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the child: by the end of its input, or, where it hangs, by force."""
        process, self._process = self._process, None
        if process is not None:
            try:
                process.communicate(timeout=_GRACE)
            except (OSError, ValueError, subprocess.TimeoutExpired):
                process.kill()
                process.wait()

    def load(self, path: Path, *, seconds: float | None = None) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Header and arrays of one file.

        Args:
            path: ``.h5`` shard, ``.npy`` split file, or a pickle or ``.pt`` archive of molecules.
            seconds: Wall time; by default 60 and two for each MB.

        Raises:
            DataError: When the file is refused, or the child died on it or ran out of time.
        """
        limit = seconds or _SECONDS[0] + _SECONDS[1] * path.stat().st_size / 2**20
        with self._lock:
            answer = self._ask(path, time.monotonic() + limit)
        with np.load(io.BytesIO(answer), allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        header: dict[str, Any] = json.loads(arrays.pop("header").tobytes())
        if "error" in header:
            raise DataError(f"{path}: refused ({header['error']})")
        return header, arrays

    def _ask(self, path: Path, deadline: float) -> bytes:
        if self._process is None:
            environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
            self._process = subprocess.Popen(
                [sys.executable, "-m", "conformergen.datasets.reader_child"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=environment,
                bufsize=0,
            )
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        try:
            stdin.write(os.fsencode(str(path.resolve())) + b"\n")
            size = int.from_bytes(_exactly(stdout, 8, deadline), "little")
            if size > _MAX_ANSWER:
                raise EOFError("answer too large")
            return _exactly(stdout, size, deadline)
        except (OSError, EOFError) as error:
            self._process.kill()
            self.close()
            raise DataError(f"{path}: the reader process died on this file") from error
        except BaseException:  # interrupted between question and answer: this child is of no use any more
            self._process.kill()
            self.close()
            raise


_shared: dict[int, ReaderChild] = {}


def shared_child() -> ReaderChild:
    """The child that all shards of this process are read by; it starts with the first."""
    if os.getpid() not in _shared:
        _shared[os.getpid()] = ReaderChild()
        atexit.register(_shared[os.getpid()].close)
    return _shared[os.getpid()]


def _exactly(stream: IO[bytes], size: int, deadline: float) -> bytes:
    data = bytearray()
    while len(data) < size:
        ready, _, _ = select.select([stream], [], [], max(0.0, deadline - time.monotonic()))
        part = stream.read(min(size - len(data), 2**20)) if ready else b""
        if not part:
            raise EOFError("the child closed its output" if ready else "out of time")
        data += part
    return bytes(data)


def load_split_array(path: Path) -> list[np.ndarray]:
    """Index arrays of ``split0.npy`` (an object array, so it goes through the child).

    Raises:
        ValueError: When it does not hold three integer arrays.
    """
    try:
        with ReaderChild() as child:
            _, arrays = child.load(path)
    except DataError as error:
        raise ValueError(str(error)) from error
    if len(arrays) != 3:
        raise ValueError(f"{len(arrays)} arrays instead of three")
    return [arrays[f"part{i}"] for i in range(3)]
