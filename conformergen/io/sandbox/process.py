"""The parent's side of the sandbox: hand files to a disposable process and receive plain arrays.

The process limits its own memory and CPU time. A file on which it dies or hangs is refused, and the next file gets a
new process.
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
from rdkit import Chem

from conformergen.chem import mol_from_arrays
from conformergen.errors import DataError

#: Largest answer of the process, bytes.
_MAX_ANSWER: Final = 2**31
#: Time limit of a small file, seconds.
_BASE_SECONDS: Final = 60.0
#: Additional time for each MB of a file, seconds.
_SECONDS_PER_MB: Final = 2.0
#: Time that the process has to leave by itself, seconds.
_GRACE_SECONDS: Final = 1.0


class SandboxReader:
    """One process for many files; a file that kills it costs only itself."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> "SandboxReader":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the process: by closing its input, or by force where it hangs."""
        process, self._process = self._process, None
        if process is not None:
            try:
                process.communicate(timeout=_GRACE_SECONDS)
            except (OSError, ValueError, subprocess.TimeoutExpired):
                process.kill()
                process.wait()

    def load(self, path: Path, *, seconds: float | None = None) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Header and arrays of one file.

        Args:
            path: ``.h5`` shard, ``.npy`` split file, or a pickle or ``.pt`` archive of molecules.
            seconds: Time limit; by default 60 s and 2 s for each MB.

        Raises:
            DataError: When the file is refused, or when the process died on it or ran out of time.
        """
        limit = seconds or _BASE_SECONDS + _SECONDS_PER_MB * path.stat().st_size / 2**20
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
                [sys.executable, "-m", "conformergen.io.sandbox.child"],
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
        except BaseException:  # interrupted between question and answer: the process cannot be used any more
            self._process.kill()
            self.close()
            raise


#: Reader of this process, by process id: a forked process needs its own.
_shared: dict[int, SandboxReader] = {}


def shared_reader() -> SandboxReader:
    """The reader of all shards of this process; it starts with the first of them."""
    if os.getpid() not in _shared:
        _shared[os.getpid()] = SandboxReader()
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
    """Index arrays of ``split0.npy``, which is an object array and therefore read in the sandbox.

    Raises:
        ValueError: When it does not hold three integer arrays.
    """
    try:
        with SandboxReader() as sandbox:
            _, arrays = sandbox.load(path)
    except DataError as error:
        raise ValueError(str(error)) from error
    if len(arrays) != 3:
        raise ValueError(f"{len(arrays)} arrays instead of three")
    return [arrays[f"part{i}"] for i in range(3)]


def unpack_mols(arrays: dict[str, np.ndarray]) -> list[Chem.Mol | None]:
    """Molecules from the arrays of a ``SandboxReader``; None where RDKit refuses one."""
    mols = []
    atom, bond = 0, 0
    for n_atoms, n_bonds in arrays["sizes"].tolist() if arrays else []:
        atoms, bonds = slice(atom, atom + n_atoms), slice(bond, bond + n_bonds)
        mols.append(
            mol_from_arrays(
                arrays["numbers"][atoms],
                arrays["charges"][atoms],
                arrays["bonds"][bonds],
                arrays["types"][bonds],
                arrays["positions"][atoms],
            )
        )
        atom, bond = atom + n_atoms, bond + n_bonds
    return mols
