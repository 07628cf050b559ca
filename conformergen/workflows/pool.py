"""Worker processes for per-molecule work: results in input order, one bad molecule costs only itself.

Each process has a pipe and a thread of its own, so that the death of one touches no other; ``multiprocessing.Pool``,
``concurrent.futures`` and pebble share a queue between their workers, and hang or break when one dies at the wrong
moment. The thread knows at what its worker is: of a process that dies, the item is tried once more, in a new one; a
process that is longer at an item than the limit is killed; one that wants too much memory loses its item. An error
that is nobody's but a bug's, ours or a library's, costs its item too, and leaves its traceback on stderr.
"""

import multiprocessing
import os
import resource
import signal
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Final, NamedTuple, TypeVar

from conformergen.errors import DataError, InputError, LockedError, MoleculeError

#: Where Linux says how much memory this container has.
_CONTAINER: Final = Path("/sys/fs/cgroup/memory.max")
_LEAST_MEMORY: Final = 2 << 30
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


def memory_limit(jobs: int) -> int:
    """Bytes that each of so many workers may have: together 60 % of the machine's or container's, at least 2 GiB."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if _CONTAINER.is_file() and (text := _CONTAINER.read_text().strip()).isdigit():
        total = min(total, int(text))
    return max(_LEAST_MEMORY, int(0.6 * total / jobs))


def _limit_memory(limit: int) -> None:
    """In a new worker: heap and anonymous maps; libraries do not count, and systems without such a limit have none."""
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_DATA, (limit if hard < 0 else min(limit, hard), hard))


class _DiedError(Exception):
    """A worker process ended in the middle of an item."""


class WorkerStartError(RuntimeError):
    """A worker process does not come up: the run's trouble, not an item's."""


#: Errors of the run, whatever item it was at; the cause of a SystemError may be a signal's.
_OF_THE_RUN: Final = (InputError, DataError, LockedError, OSError, SystemError, WorkerStartError)


class _RemoteError(Exception):
    """Traceback of a worker process, as the cause of what it raised."""

    def __str__(self) -> str:
        return f"in a worker process:\n{self.args[0]}"


class _Process:
    """A worker process and the pipe to it.

    Raises:
        WorkerStartError: When the process does not come up.
    """

    _starting = threading.Lock()

    def __init__(self, memory: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, memory), daemon=True)
        try:
            with self._starting:
                self._process.start()
            theirs.close()
            self._pipe.recv()
        except (EOFError, OSError, RuntimeError) as error:  # the last in a script that its worker runs again
            raise WorkerStartError("a worker process could not start") from error

    def __call__(self, function: Callable[[Any], Any], item: Any, timeout: float | None) -> Any:
        try:
            self._pipe.send((function, item))
            if not self._pipe.poll(timeout):
                self.stop()
                raise MoleculeError("timeout", f"stopped after {timeout:.0f} s")
            value, error, where = self._pipe.recv()
        except (EOFError, OSError) as lost:
            self.stop()
            raise _DiedError(f"exit status {self._process.exitcode}") from lost
        if error is not None:
            raise error from _RemoteError(where)
        return value

    @property
    def alive(self) -> bool:
        return self._process.is_alive()

    def end(self) -> None:
        """Let it leave, once it has nothing to do."""
        self._pipe.close()
        self._process.join()

    def stop(self) -> None:
        """Kill it, whatever it does."""
        self._process.kill()
        self._process.join()


def _serve(pipe: Connection, memory: int) -> None:
    """Life of a worker process: until the other end of the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C meets the whole group; the parent decides
    _limit_memory(memory)
    with suppress(EOFError, OSError):
        pipe.send("ready")
        while True:
            function, item = pipe.recv()
            try:
                answer = ForkingPickler.dumps((function(item), None, ""))
            except Exception as error:  # noqa: BLE001  raised again in the parent
                answer = ForkingPickler.dumps((None, error, traceback.format_exc()))
            pipe.send_bytes(answer)


class _Task(NamedTuple):
    function: Callable[[Any], Any]
    item: Any
    timeout: float | None
    future: "Future[Any]"


class _Slot(threading.Thread):
    """Works off a queue with one process, replaced when it dies; ends with the queue's first None."""

    def __init__(self, queue: "SimpleQueue[_Task | None]", memory: int) -> None:
        super().__init__(daemon=True)
        self._queue, self._memory = queue, memory
        self._process: _Process | None = None
        self._stopped = False

    def run(self) -> None:
        while (task := self._queue.get()) is not None and not self._stopped:
            try:
                task.future.set_result(self._outcome(task))
            except BaseException as error:  # noqa: BLE001  raised again by whoever asks for the result
                task.future.set_exception(error)
        if self._process is not None and not self._stopped:
            self._process.end()

    def _outcome(self, task: _Task) -> Any:
        died = ""
        while True:
            if self._process is None or not self._process.alive:
                self._process = self._new_process()
            if self._stopped:
                raise MoleculeError("crash", "the run was stopped")
            try:
                return self._process(task.function, task.item, task.timeout)
            except _DiedError as error:
                if died:
                    raise MoleculeError("crash", f"the worker process died twice ({died}, {error})") from error
                died = str(error)

    def _new_process(self) -> _Process:
        try:
            return _Process(self._memory)
        except WorkerStartError:  # killed while it came up; or none can, which the second shows
            return _Process(self._memory)

    def stop(self) -> None:
        """Kill the process, and with it the work on an item."""
        self._stopped = True
        if self._process is not None:
            self._process.stop()


class Workers:
    """A pool of processes that several maps share.

    Args:
        jobs: Processes; 0 for all cores.
        isolated: Work in another process even with one job, which otherwise runs in this one: for a run that goes on
            where an earlier one died.
    """

    def __init__(self, jobs: int, *, isolated: bool = False) -> None:
        self.jobs = resolve_jobs(jobs)
        self._here = self.jobs == 1 and not isolated
        self._queue: SimpleQueue[_Task | None] = SimpleQueue()
        self._slots: list[_Slot] = []

    def __enter__(self) -> "Workers":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for slot in self._slots:
            if kind is not None:
                slot.stop()
            self._queue.put(None)
        for slot in self._slots:
            slot.join()

    def map(
        self,
        function: Callable[[Item], Result],
        items: Iterable[Item],
        *,
        timeout: float | None = None,
        ahead: int | None = None,
    ) -> Iterator[Result | MoleculeError]:
        """Apply ``function`` to each item; a ``MoleculeError``, a timeout, a dead worker or a bug becomes its result.

        Args:
            function: Picklable function of one item.
            items: Read lazily.
            timeout: Seconds of wall time for each item, after which its worker is killed; not in this process.
            ahead: Items at work or finished before their results are asked for; four for each worker by default.

        Raises:
            WorkerStartError: When worker processes cannot start.
            InputError: As ``function``; so do ``DataError``, ``LockedError`` and ``OSError``.
        """
        if self._here:
            for item in items:
                yield _outcome(partial(function, item))
            return
        if not self._slots:
            for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
                os.environ.setdefault(name, "1")
            self._slots = [_Slot(self._queue, memory_limit(self.jobs)) for _ in range(self.jobs)]
            for slot in self._slots:
                slot.start()
        pending: deque[Future[Any]] = deque()
        for item in items:
            task = _Task(function, item, timeout, Future())
            self._queue.put(task)
            pending.append(task.future)
            if len(pending) >= (ahead or 4 * self.jobs):
                yield _outcome(pending.popleft().result)
        while pending:
            yield _outcome(pending.popleft().result)


def map_molecules(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    jobs: int,
    timeout: float | None = None,
    isolated: bool = False,
) -> Iterator[Result | MoleculeError]:
    """``Workers.map`` with a pool of its own."""
    with Workers(jobs, isolated=isolated) as workers:
        yield from workers.map(function, items, timeout=timeout)


def _outcome(work: Callable[[], Any]) -> Any:
    try:
        return work()
    except MoleculeError as error:
        return error
    except MemoryError:
        return MoleculeError("oom", "out of memory")
    except _OF_THE_RUN:
        raise
    except Exception as error:  # noqa: BLE001  whatever it is, the other items are none the worse
        traceback.print_exception(error)
        return MoleculeError("crash", f"{type(error).__name__}: {error}")
