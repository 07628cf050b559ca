"""Generation into a file that grows block by block, can be killed at any moment and goes on where it was.

Beside ``OUT`` stand, until it is finished, ``OUT.partial`` and ``OUT.progress``: the latter says how many inputs, and
how many bytes of the output and of the list of failures, belong to finished blocks.
"""

import hashlib
import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from conformergen.datasets.inputs import InputRecord
from conformergen.errors import InputError
from conformergen.records import Failure
from conformergen.storage import commit_bytes, exclusive, fault_point, json_digest, sweep
from conformergen.workflows.generate.settings import GenerateSettings, GenerateSummary
from conformergen.workflows.generate.stream import generate_stream
from conformergen.workflows.outputs import TextWriter, open_writer, writer_class


@dataclass(frozen=True, kw_only=True)
class _Progress:
    """What is finished.

    Attributes:
        settings: Digest of the settings and the weights.
        inputs: Digest of the inputs consumed.
        written: Bytes of the output.
        failures: Bytes of the list of failures.
        summary: Counts.
    """

    settings: str
    inputs: str
    written: int
    failures: int
    summary: GenerateSummary


class _Inputs:
    """The records, counted and digested as they are consumed."""

    def __init__(self, records: Iterable[InputRecord]) -> None:
        self._records = iter(records)
        self._waiting: list[InputRecord] = []
        self._digest = hashlib.sha256()

    def __iter__(self) -> Iterator[InputRecord]:
        for record in self._records:
            self._waiting.append(record)
            yield record

    def digest(self, n: int) -> str:
        """Digest up to the n oldest records that were not digested yet."""
        for record in self._waiting[:n]:
            self._digest.update(json.dumps([record.smiles, record.name, record.n_references]).encode())
        del self._waiting[:n]
        return self._digest.hexdigest()

    def skip(self, n: int) -> str:
        """Pass over the first n records; their digest."""
        self._waiting += itertools.islice(self._records, n)
        return self.digest(n)


class _FailureList:
    """``OUT.failures.jsonl``; it is there only where something failed."""

    def __init__(self, path: Path | None, size: int) -> None:
        self._path = path
        if path is not None:
            if size:
                os.truncate(path, size)
            else:
                path.unlink(missing_ok=True)

    def add(self, failure: Failure) -> None:
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(failure)) + "\n")

    def size(self) -> int:
        return self._path.stat().st_size if self._path is not None and self._path.exists() else 0


def generate_to(
    records: Iterable[InputRecord],
    out: str,
    settings: GenerateSettings,
    *,
    resume: bool = False,
    on_failure: Callable[[Failure], None] = lambda failure: None,
    progress: Callable[[int], None] = lambda n: None,
) -> GenerateSummary:
    """Generate into a file; it has its name only when it is complete.

    Args:
        records: Inputs.
        out: File, or ``-`` for standard output.
        settings: How conformers are made.
        resume: Go on where an interrupted run stopped, byte for byte as if it had not; without one, from the start.
        on_failure: Receives each failed input; failures are also lines of ``OUT.failures.jsonl``.
        progress: Called with 1 for each input.

    Raises:
        InputError: As ``open_writer`` and ``generate_stream``; for a resumed run with other settings or inputs, or
            whose format cannot be continued.
        LockedError: When another run writes ``out``.
    """
    work = partial(_generate, records, out, settings, resume=resume, on_failure=on_failure, progress=progress)
    if out == "-":
        return work(isolated=False)
    writer_class(out)
    with exclusive(Path(f"{out}.lock")) as abandoned:
        sweep(Path(out).parent, prefix=Path(out).name)
        return work(isolated=abandoned)


def _generate(
    records: Iterable[InputRecord],
    out: str,
    settings: GenerateSettings,
    *,
    resume: bool,
    isolated: bool,
    on_failure: Callable[[Failure], None],
    progress: Callable[[int], None],
) -> GenerateSummary:
    journal = Path(f"{out}.progress")
    inputs = _Inputs(records)
    known = _read(journal, settings) if resume else None
    if resume and not issubclass(writer_class(out), TextWriter):
        raise InputError("--resume: only .sdf and .xyz outputs, also .gz, grow as they are made")
    if known is not None and inputs.skip(known.summary.requested) != known.inputs:
        raise InputError(f"{journal}: the run that is to be resumed had other inputs")
    if known is None:
        journal.unlink(missing_ok=True)
    writer = open_writer(out, resume_at=known.written if known else 0)
    failures = _FailureList(None if out == "-" else Path(f"{out}.failures.jsonl"), known.failures if known else 0)
    summary = known.summary if known else GenerateSummary()
    progress(summary.requested)

    def failed(failure: Failure) -> None:
        failures.add(failure)
        on_failure(failure)

    try:
        stream = generate_stream(
            inputs, settings, before=summary, isolated=isolated, on_failure=failed, progress=progress
        )
        for item in stream:
            if not isinstance(item, GenerateSummary):
                writer.write(*item)
                continue
            digest = inputs.digest(item.requested - summary.requested)
            summary = item
            if isinstance(writer, TextWriter):
                done = _Progress(
                    settings=settings.digest(),
                    inputs=digest,
                    written=writer.commit(),
                    failures=failures.size(),
                    summary=summary,
                )
                fault_point("generate.block")
                _write(journal, done)
        writer.close()
        fault_point("generate.closed")
    except BaseException:
        writer.discard(keep=journal.exists())
        raise
    journal.unlink(missing_ok=True)
    return summary


def _read(journal: Path, settings: GenerateSettings) -> _Progress | None:
    if not journal.exists():
        return None
    try:
        stored = json.loads(journal.read_text())
        values = stored["progress"]
        if stored["sha256"] != json_digest(values):
            raise ValueError("the content is not what was written")
        known = _Progress(**(values | {"summary": GenerateSummary(**values["summary"])}))
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"{journal}: unreadable ({error}); remove it to start anew") from error
    if known.settings != settings.digest():
        raise InputError(f"{journal}: the run that is to be resumed had other settings or another version")
    return known


def _write(journal: Path, progress: _Progress) -> None:
    values = asdict(progress)
    commit_bytes(journal, (json.dumps({"progress": values, "sha256": json_digest(values)}) + "\n").encode())
