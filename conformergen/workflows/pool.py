"""Worker processes for per-molecule work: results in input order, one bad molecule costs only itself.

A worker that dies is replaced, and its item tried once more: an innocent one, whose worker fell to something else, is
not lost. A worker that hangs is killed at the item's time limit.
"""

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import TimeoutError as FutureTimeoutError
from functools import partial
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
                yield _outcome(partial(function, item), timeout)
            return
        if self._pool is None:
            for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
                os.environ.setdefault(name, "1")
            self._pool = ProcessPool(max_workers=self.jobs, context=multiprocessing.get_context("spawn"))
        schedule = partial(self._pool.schedule, function, timeout=timeout)
        pending: deque[tuple[Any, Item]] = deque()

        def oldest() -> Any:
            future, item = pending.popleft()
            try:
                return _outcome(future.result, timeout)
            except ProcessExpired:
                return _outcome(lambda: _last(schedule(args=(item,))), timeout)

        for item in items:
            pending.append((schedule(args=(item,)), item))
            if len(pending) >= (ahead or 4 * self.jobs):
                yield oldest()
        while pending:
            yield oldest()


def map_molecules(
    function: Callable[[Item], Result], items: Iterable[Item], *, jobs: int, timeout: float | None = None
) -> Iterator[Result | MoleculeError]:
    """``Workers.map`` with a pool of its own."""
    with Workers(jobs) as workers:
        yield from workers.map(function, items, timeout=timeout)


def _outcome(work: Callable[[], Any], timeout: float | None) -> Any:
    try:
        return work()
    except MoleculeError as error:
        return error
    except FutureTimeoutError:
        return MoleculeError("timeout", f"stopped after {timeout:.0f} s")
    except MemoryError:
        return MoleculeError("oom", "out of memory")


def _last(future: Any) -> Any:
    try:
        return future.result()
    except ProcessExpired as error:
        raise MoleculeError("crash", f"the worker process died twice ({error})") from error
