"""Worker processes for per-molecule work: results in input order, one bad molecule costs only itself."""

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any, TypeVar

from pebble import ProcessExpired, ProcessPool

from conformergen.errors import InputError, MoleculeError

Item = TypeVar("Item")
Result = TypeVar("Result")


def resolve_jobs(jobs: int) -> int:
    """Worker count: 0 means one for each core this process may use.

    Raises:
        InputError: For a negative count.
    """
    if jobs < 0:
        raise InputError("--jobs must be 0 (all cores) or more")
    return jobs or len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else jobs or os.cpu_count() or 1


def map_molecules(
    function: Callable[[Item], Result], items: Iterable[Item], *, jobs: int, timeout: float | None = None
) -> Iterator[Result | MoleculeError]:
    """Apply ``function`` to each item; a ``MoleculeError``, a timeout or a dead worker becomes its result.

    Args:
        function: Picklable function of one item.
        items: Read lazily, a few more than there are workers.
        jobs: 1 runs in this process, without the time limit.
        timeout: Seconds of wall time for each item, after which its worker is killed.
    """
    if jobs == 1:
        for item in items:
            try:
                yield function(item)
            except MoleculeError as error:
                yield error
        return
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    context = multiprocessing.get_context("spawn")
    with ProcessPool(max_workers=jobs, context=context) as pool:
        pending: deque[Any] = deque()
        for item in items:
            pending.append(pool.schedule(function, args=(item,), timeout=timeout))
            if len(pending) >= 4 * jobs:
                yield _result(pending.popleft(), timeout)
        while pending:
            yield _result(pending.popleft(), timeout)


def _result(future: Any, timeout: float | None) -> Any:
    try:
        return future.result()
    except MoleculeError as error:
        return error
    except FutureTimeoutError:
        return MoleculeError("timeout", f"stopped after {timeout:.0f} s")
    except ProcessExpired as error:
        return MoleculeError("crash", f"the worker process died ({error})")
