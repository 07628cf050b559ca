"""What can go wrong, and whose fault it is."""

from typing import Final

#: Reason codes of a failed molecule; they are written to ``OUT.failures.jsonl``.
REASONS: Final = (
    "parse",
    "sanitise",
    "domain",
    "too-large",
    "embed",
    "stereo",
    "reacted",
    "nan",
    "timeout",
    "crash",
    "oom",
    "io",
)


class InputError(Exception):
    """The user's mistake: one line, no traceback, exit code 2.

    Attributes:
        message: What is wrong.
        setting: Name of the setting that is wrong, or an empty string. The command line shows the option instead.
    """

    def __init__(self, message: str, *, setting: str = "") -> None:
        super().__init__(message)
        self.message, self.setting = message, setting

    def __str__(self) -> str:
        return f"{self.setting}: {self.message}" if self.setting else self.message

    def __reduce__(self) -> tuple[object, ...]:
        """Keep the setting when a worker process sends the error."""
        return (type(self), (self.message,), {"setting": self.setting})


class DataError(Exception):
    """A data file or checkpoint fails verification: one line, exit code 65."""


class OtherRunError(DataError):
    """What is to be resumed is intact, but was made with other settings, data or weights."""


class LockedError(Exception):
    """Another run works on the same output: one line, exit code 73."""


class DivergedError(Exception):
    """Training collapsed numerically, again after it went back to a good checkpoint: one line, exit code 70."""


class MoleculeError(Exception):
    """One molecule cannot be processed; the run goes on.

    Attributes:
        reason: One of ``REASONS``.
    """

    def __init__(self, reason: str, message: str) -> None:
        if reason not in REASONS:
            raise ValueError(f"unknown reason code {reason!r}")
        super().__init__(message)
        self.reason = reason

    def __reduce__(self) -> tuple[type["MoleculeError"], tuple[str, str]]:
        """Survive the trip from a worker process."""
        return (MoleculeError, (self.reason, str(self)))
