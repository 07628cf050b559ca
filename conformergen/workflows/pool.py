"""Worker processes for per-molecule work: results in input order, one bad molecule costs only itself."""

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import TimeoutError as FutureTimeoutError
from types import TracebackType
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


class Workers:
    """A pool of processes that several maps share; with one job everything runs in this process."""

    def __init__(self, jobs: int) -> None:
        self.jobs = resolve_jobs(jobs)
        self._pool: Any = None

    def __enter__(self) -> "Workers":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            if kind is None:
                self._pool.close()
            else:
                self._pool.stop()
            self._pool.join()

    def map(
        self,
        function: Callable[[Item], Result],
        items: Iterable[Item],
        *,
        timeout: float | None = None,
        ahead: int | None = None,
    ) -> Iterator[Result | MoleculeError]:
        """Apply ``function`` to each item; a ``MoleculeError``, a timeout or a dead worker becomes its result.

        Args:
            function: Picklable function of one item.
            items: Read lazily.
            timeout: Seconds of wall time for each item, after which its worker is killed; not with one job.
            ahead: Items at work or finished before their results are asked for; four for each worker by default.
        """
        if self.jobs == 1:
            for item in items:
                try:
                    yield function(item)
                except MoleculeError as error:
                    yield error
            return
        if self._pool is None:
            for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
                os.environ.setdefault(name, "1")
            self._pool = ProcessPool(max_workers=self.jobs, context=multiprocessing.get_context("spawn"))
        pending: deque[Any] = deque()
        for item in items:
            pending.append(self._pool.schedule(function, args=(item,), timeout=timeout))
            if len(pending) >= (ahead or 4 * self.jobs):
                yield _result(pending.popleft(), timeout)
        while pending:
            yield _result(pending.popleft(), timeout)


def map_molecules(
    function: Callable[[Item], Result], items: Iterable[Item], *, jobs: int, timeout: float | None = None
) -> Iterator[Result | MoleculeError]:
    """``Workers.map`` with a pool of its own."""
    with Workers(jobs) as workers:
        yield from workers.map(function, items, timeout=timeout)


def _result(future: Any, timeout: float | None) -> Any:
    try:
        return future.result()
    except MoleculeError as error:
        return error
    except FutureTimeoutError:
        return MoleculeError("timeout", f"stopped after {timeout:.0f} s")
    except ProcessExpired as error:
        return MoleculeError("crash", f"the worker process died ({error})")
