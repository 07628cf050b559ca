"""Parent side of the disposable unpickling process."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final

import numpy as np

from conformergen.errors import DataError

_MAX_ANSWER: Final = 2**30
#: Seconds that a child has to leave by itself.
_GRACE: Final = 1.0


class UnpickleChild:
    """One child process for many files; a file that kills it costs only itself."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "UnpickleChild":
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

    def load(self, path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Header and arrays of one file.

        Raises:
            DataError: When the file is refused, or the child died on it.
        """
        if self._process is None:
            environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
            self._process = subprocess.Popen(
                [sys.executable, "-m", "conformergen.datasets.unpickle_child"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=environment,
            )
        process = self._process
        try:
            stdin, stdout = process.stdin, process.stdout
            assert stdin is not None
            assert stdout is not None
            stdin.write(os.fsencode(str(path.resolve())) + b"\n")
            stdin.flush()
            size = int.from_bytes(_exactly(stdout, 8), "little")
            if size > _MAX_ANSWER:
                raise EOFError("answer too large")
            answer = _exactly(stdout, size)
        except (OSError, EOFError) as error:
            self.close()
            raise DataError(f"{path}: the reader process died on this file") from error
        with np.load(io.BytesIO(answer), allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        header: dict[str, Any] = json.loads(arrays.pop("header").tobytes())
        if "error" in header:
            raise DataError(f"{path}: refused ({header['error']})")
        return header, arrays


def _exactly(stream: IO[bytes], size: int) -> bytes:
    data = stream.read(size)
    if len(data) != size:
        raise EOFError("the child closed its output")
    return data


def load_split_array(path: Path) -> list[np.ndarray]:
    """Index arrays of ``split0.npy`` (an object array, so it goes through the child).

    Raises:
        ValueError: When it does not hold three integer arrays.
    """
    try:
        with UnpickleChild() as child:
            _, arrays = child.load(path)
    except DataError as error:
        raise ValueError(str(error)) from error
    if len(arrays) != 3:
        raise ValueError(f"{len(arrays)} arrays instead of three")
    return [arrays[f"part{i}"] for i in range(3)]
