"""Signals that a long run answers between two steps."""

import signal
from typing import Any


class StopSignals:
    """Collects signals while a run works.

    SIGTERM and SIGINT ask the run to finish its step, write a checkpoint and leave; a second one ends it at once.
    SIGUSR1 asks for a checkpoint. Outside the main thread the caller keeps its own handlers.
    """

    def __init__(self) -> None:
        self._stop: list[int] = []
        self._checkpoint_wanted = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "StopSignals":
        try:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
                self._previous[number] = signal.signal(number, self._handle)
        except ValueError:  # not the main thread
            pass
        return self

    def _handle(self, number: int, frame: object) -> None:
        del frame
        if number == signal.SIGUSR1:
            self._checkpoint_wanted = True
        elif self._stop:
            raise SystemExit(128 + number)
        else:
            self._stop.append(number)

    def request(self) -> str | None:
        """What the signals since the last call ask for: ``stop``, ``checkpoint`` or nothing."""
        wanted, self._checkpoint_wanted = self._checkpoint_wanted, False
        return "stop" if self._stop else "checkpoint" if wanted else None

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        if self._stop and kind is None:
            raise SystemExit(128 + self._stop[0])
