"""The Typer application: exit codes, progress and messages."""

import errno
import json
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

from conformergen.cli.options import option_of
from conformergen.errors import DataError, DivergedError, InputError, LockedError
from conformergen.version import __version__

# Exit codes; those above 64 follow sysexits.h.
#: More inputs failed than ``--max-failures``.
EXIT_SOME_FAILED: Final = 1
#: A mistake of the user.
EXIT_USAGE: Final = 2
#: Damaged data or a damaged checkpoint.
EXIT_DATA: Final = 65
#: Training collapsed twice.
EXIT_COLLAPSED: Final = 70
#: Another run works on the output.
EXIT_LOCKED: Final = 73
#: A full disk, missing permission or impossible path, or not enough memory.
EXIT_IO: Final = 74
#: Ctrl-C.
EXIT_INTERRUPTED: Final = 130
#: SIGTERM.
EXIT_TERMINATED: Final = 143
#: Errors of the operating system that end a command with one line and ``EXIT_IO``, such as a full disk.
_IO_ERRORS: Final = frozenset(
    {errno.ENOSPC, errno.EACCES, errno.EPERM, errno.EROFS, errno.EDQUOT, errno.EIO, errno.EFBIG, errno.ENAMETOOLONG}
    | {errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.ENOENT}
)
#: Seconds between two log lines where stderr is not a terminal.
_LOG_INTERVAL: Final = 30.0


#: Message of a run that shares its output with others that are still at work.
JOINED: Final = "done; other runs that joined are still at work, and the last one completes the output"


class Terminated(BaseException):
    """The process received SIGTERM; finished blocks stay, and the run can be resumed."""


def _terminate(*_: object) -> None:
    raise Terminated


#: Exit code of each way to end early, and the message where the exception has none.
_ENDINGS: Final[dict[type[BaseException], tuple[int, str]]] = {
    InputError: (EXIT_USAGE, ""),
    DataError: (EXIT_DATA, ""),
    DivergedError: (EXIT_COLLAPSED, ""),
    LockedError: (EXIT_LOCKED, ""),
    MemoryError: (EXIT_IO, "out of memory"),
    KeyboardInterrupt: (EXIT_INTERRUPTED, "interrupted"),
    Terminated: (EXIT_TERMINATED, "terminated"),
}
#: Errors that end a command with one line instead of a traceback.
_EXPECTED: Final[tuple[type[BaseException], ...]] = (OSError, SystemError, *_ENDINGS)


def _ending(error_in_call: BaseException) -> tuple[int, str] | None:
    """Exit code and message of a known way to end; None for a bug.

    A signal that arrives while C code calls Python code becomes the cause of a SystemError.
    """
    error = error_in_call.__cause__ if isinstance(error_in_call, SystemError) else error_in_call
    if isinstance(error, OSError) and error.errno in _IO_ERRORS:
        return EXIT_IO, str(error)
    found = (ending for kind, ending in _ENDINGS.items() if isinstance(error, kind))
    code, word = next(found, (None, ""))
    if isinstance(error, InputError) and error.setting:
        word = f"{option_of(error.setting)}: {error.message}"
    return None if code is None else (code, word or str(error))


class _ExitCodes(TyperGroup):
    """Turn known errors into one line and the right exit code; a bug keeps its traceback."""

    def invoke(self, ctx: Any) -> Any:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, _terminate)
            # Then a write beyond a limit on file size is an error like a full disk.
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise typer.Exit(EXIT_IO) from None
        except _EXPECTED as error:
            if (ending := _ending(error)) is None:
                raise
        finally:
            # The work is done, so a signal that arrives now ends the process and is no error of the program.
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
        log(f"error: {ending[1]}")
        raise typer.Exit(ending[0])


app = typer.Typer(
    cls=_ExitCodes,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # plain help costs half the start-up time
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Generate, train, score: 3D conformers of molecules.",
)


def log(text: str) -> None:
    """Print one line on stderr."""
    print(f"conformergen: {text}", file=sys.stderr, flush=True)


def log_json(value: dict[str, Any]) -> None:
    """Print the summary of a run as one JSON line on stderr."""
    print(json.dumps(value), file=sys.stderr, flush=True)


def exit_if_failed(failed: int, allowed: int) -> None:
    """Exit with code 1 where more inputs failed than are allowed."""
    if failed > allowed:
        raise typer.Exit(EXIT_SOME_FAILED)


def shard_of(text: str | None) -> tuple[int, int]:
    """Index from 0, and number of shards, of the text ``I/N``.

    Raises:
        InputError: For any other text.
    """
    if text is None:
        return 0, 1
    index, _, total = text.partition("/")
    if not (index.isdigit() and total.isdigit() and 1 <= int(index) <= int(total)):
        raise InputError(f"{text!r} is not I/N with 1 <= I <= N", setting="shard")
    return int(index) - 1, int(total)


@contextmanager
def progress(label: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Show progress on stderr: a bar on a terminal, a log line every 30 s elsewhere."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import Progress

        with Progress(console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(label, total=total)
            yield lambda n: bar.advance(task, n)
        return
    done, last = 0, time.monotonic()

    def advance(n: int) -> None:
        nonlocal done, last
        done += n
        if time.monotonic() - last > _LOG_INTERVAL:
            last = time.monotonic()
            log(f"{label}: {done}{'' if total is None else f' of {total}'}")

    yield advance


def _version(wanted: bool | None) -> None:
    if wanted:
        print(f"conformergen {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool | None, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = None,
) -> None:
    """3D conformers of molecules: preprocess data sets, train models, generate from SMILES, evaluate ensembles."""
