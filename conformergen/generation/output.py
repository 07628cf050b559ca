"""Generation into a file that grows block by block, can be killed at any moment, and can be resumed.

Until the file is finished, ``OUT.partial`` and ``OUT.progress`` stand beside it. The latter says how many inputs, and
how many bytes of the output and of the list of failures, belong to finished blocks, and which settings and networks
made them.
"""

import hashlib
import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

from conformergen.errors import InputError
from conformergen.generation.settings import GenerateSettings, GenerateSummary
from conformergen.generation.stream import Pipeline
from conformergen.io.formats import TextWriter, open_writer, writer_class
from conformergen.io.inputs import InputRecord
from conformergen.records import Failure
from conformergen.runtime.files import commit_bytes, fault_point, json_digest, sweep
from conformergen.runtime.locks import exclusive


@dataclass(frozen=True, kw_only=True)
class _Progress:
    """What is finished.

    Attributes:
        settings: Digest of the settings and of the version of the program.
        inputs: Digest of the inputs consumed.
        written: Size of the output, bytes.
        failures: Size of the list of failures, bytes.
        summary: Counts.
        networks: SHA-256 of each network, by its role.
    """

    settings: str
    inputs: str
    written: int
    failures: int
    summary: GenerateSummary
    networks: Mapping[str, str] = field(default_factory=dict)


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
        """Add the n oldest records that are not yet part of the digest; returns the digest."""
        for record in self._waiting[:n]:
            self._digest.update(json.dumps([record.smiles, record.name, record.n_references]).encode())
        del self._waiting[:n]
        return self._digest.hexdigest()

    def skip(self, n: int) -> str:
        """Pass over the first n records; returns their digest."""
        self._waiting += itertools.islice(self._records, n)
        return self.digest(n)


class _FailureList:
    """``OUT.failures.jsonl``; the file exists only where something failed."""

    def __init__(self, path: Path | None, size: int) -> None:
        self._path = path
        if path is not None:
            if size:
                os.truncate(path, size)
            else:
                path.unlink(missing_ok=True)

    def add(self, failure: Failure) -> None:
        """Append one line."""
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(failure)) + "\n")

    def size(self) -> int:
        """Size in bytes; 0 without a file."""
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
    """Generate into a file, which gets its name only when it is complete.

    Args:
        records: Inputs.
        out: File, or ``-`` for standard output.
        settings: How conformers are generated.
        resume: Continue where an interrupted run stopped; the result is the same, byte for byte, as without the
            interruption. Without an interrupted run it starts from the beginning.
        on_failure: Receives each failed input; failures are also lines of ``OUT.failures.jsonl``.
        progress: Called with 1 for each input.

    Raises:
        InputError: As ``open_writer`` and ``Pipeline``; for a resumed run with other settings, networks or inputs, or
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
    if resume and not issubclass(writer_class(out), TextWriter):
        raise InputError("only .sdf and .xyz outputs, also .gz, can be resumed", setting="resume")
    inputs = _Inputs(records)
    known = _read(journal, settings) if resume else None
    pipeline = Pipeline(settings)
    networks = pipeline.provenance.networks
    if known is not None:
        _check_same_run(journal, known, networks, inputs)
    else:
        journal.unlink(missing_ok=True)
    writer = open_writer(out, resume_at=known.written if known else 0)
    failures = _FailureList(None if out == "-" else Path(f"{out}.failures.jsonl"), known.failures if known else 0)
    summary = known.summary if known else GenerateSummary()
    progress(summary.requested)

    def failed(failure: Failure) -> None:
        failures.add(failure)
        on_failure(failure)

    try:
        blocks = pipeline.blocks(inputs, before=summary, isolated=isolated, on_failure=failed, progress=progress)
        for block in blocks:
            for conformers in block.conformers:
                writer.write(conformers, pipeline.provenance)
            digest = inputs.digest(block.summary.requested - summary.requested)
            summary = block.summary
            if isinstance(writer, TextWriter):
                done = _Progress(
                    settings=settings.digest(),
                    inputs=digest,
                    written=writer.commit(),
                    failures=failures.size(),
                    summary=summary,
                    networks=networks,
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


def _check_same_run(journal: Path, known: _Progress, networks: Mapping[str, str], inputs: _Inputs) -> None:
    """Refuse to continue a run of other networks or inputs: one file must come from one model.

    Raises:
        InputError: With what differs.
    """
    changed = [role for role in {**known.networks, **networks} if known.networks.get(role) != networks.get(role)]
    if changed:
        names = " and ".join(role.replace("_", " ") for role in changed)
        raise InputError(f"{journal}: the run that is to be resumed used other weights of the {names}")
    if inputs.skip(known.summary.requested) != known.inputs:
        raise InputError(f"{journal}: the run that is to be resumed had other inputs")


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
