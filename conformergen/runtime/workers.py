"""Worker processes for per-molecule work: results in input order, and one bad molecule costs only itself.

Each process has a pipe and a thread of its own, so that the death of one does not affect the others.
(``multiprocessing.Pool``, ``concurrent.futures`` and pebble share a queue between their workers, and hang or break when
one dies at the wrong moment.) Each thread tracks the item its worker is processing and retries it once if the worker
dies. A worker that exceeds the time limit is killed; one that exceeds the memory limit loses its item. An unexpected
exception, in conformergen or in a library, costs its item too, and its traceback goes to stderr.
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
from typing import Any, Final, NamedTuple, Protocol, TypeVar, runtime_checkable

from conformergen.errors import DataError, InputError, LockedError, MoleculeError

#: File in which Linux states the memory limit of a container, in bytes.
_CONTAINER: Final = Path("/sys/fs/cgroup/memory.max")
#: Smallest memory limit of a worker, bytes.
_LEAST_MEMORY: Final = 2 << 30
Item = TypeVar("Item")
Result = TypeVar("Result")


@runtime_checkable
class Mapper(Protocol):
    """What the stages of a pipeline ask of the worker processes."""

    def map(
        self,
        function: Callable[[Item], Result],
        items: Iterable[Item],
        *,
        timeout: float | None = None,
        ahead: int | None = None,
    ) -> Iterator[Result | MoleculeError]:
        """Apply ``function`` to each item, in order; see ``Workers.map``."""
        ...


def resolve_jobs(jobs: int) -> int:
    """Number of workers: 0 means one for each core that this process may use.

    Raises:
        InputError: For a negative count.
    """
    if jobs < 0:
        raise InputError("must be 0 (all cores) or more", setting="jobs")
    return jobs or len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else jobs or os.cpu_count() or 1


def memory_limit(jobs: int) -> int:
    """Memory limit of each worker in bytes: together 60 % of the machine or container, but at least 2 GiB each."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if _CONTAINER.is_file() and (text := _CONTAINER.read_text().strip()).isdigit():
        total = min(total, int(text))
    return max(_LEAST_MEMORY, int(0.6 * total / jobs))


def _limit_memory(limit: int) -> None:
    """Limit heap and anonymous maps of this process, where the system supports it; shared libraries do not count."""
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_DATA, (limit if hard < 0 else min(limit, hard), hard))


class _DiedError(Exception):
    """A worker process ended while it was processing an item."""


class WorkerStartError(RuntimeError):
    """A worker process does not start: a problem of the run, not of an item."""


#: Errors that end the run, whichever item raised them. (The cause of a SystemError may be a signal.)
_OF_THE_RUN: Final = (InputError, DataError, LockedError, OSError, SystemError, WorkerStartError)


class _RemoteError(Exception):
    """Traceback of a worker process, attached as the cause of the exception that it raised."""

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
        except (
            EOFError,
            OSError,
            RuntimeError,
        ) as error:  # RuntimeError: a script without a main guard, which its worker imports again
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
        """Close the pipe and wait until the process has left."""
        self._pipe.close()
        self._process.join()

    def stop(self) -> None:
        """Kill the process."""
        self._process.kill()
        self._process.join()


def _serve(pipe: Connection, memory: int) -> None:
    """Main loop of a worker process; it ends when the other end of the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole process group; the parent decides
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
    """Thread that processes a queue with one worker process and replaces it when it dies; None ends the thread."""

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
        except WorkerStartError:  # killed while it started, or no process can start: the second attempt tells
            return _Process(self._memory)

    def stop(self) -> None:
        """Kill the process, and with it the work on its item."""
        self._stopped = True
        if self._process is not None:
            self._process.stop()


class Workers:
    """Worker processes that several maps share.

    Args:
        jobs: Number of processes; 0 for all cores.
        isolated: Use a worker process even for one job, which otherwise runs in this process: for a run that continues
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
        """Apply ``function`` to each item; a ``MoleculeError``, a timeout, a dead worker or a bug becomes the result.

        Args:
            function: Picklable function of one item.
            items: Items, read lazily.
            timeout: Seconds of wall time for each item, after which its worker is killed; ignored without workers.
            ahead: Number of items in work or finished before their results are asked for; by default four for each
                worker.

        Raises:
            WorkerStartError: When worker processes cannot start.
            InputError: As ``function``; ``DataError``, ``LockedError`` and ``OSError`` are passed on as well.
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
    """``Workers.map`` with workers of its own."""
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
    except Exception as error:  # noqa: BLE001  whatever it is, the other items go on
        traceback.print_exception(error)
        return MoleculeError("crash", f"{type(error).__name__}: {error}")
