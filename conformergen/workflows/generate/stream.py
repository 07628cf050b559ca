"""One queue over all molecules: seeds in worker processes, the network over blocks, refinement in the workers again."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import Final

from conformergen.datasets.inputs import InputRecord
from conformergen.errors import MoleculeError
from conformergen.records import ConformerSet, Failure
from conformergen.refinement.engines import choose_engine
from conformergen.workflows.generate.finish import finish
from conformergen.workflows.generate.sampler import ModelSampler
from conformergen.workflows.generate.seeding import Seeded, prepare_seeds, search_minima
from conformergen.workflows.generate.settings import SEARCH, GenerateSettings, GenerateSummary
from conformergen.workflows.outputs import Provenance
from conformergen.workflows.pool import Workers
from conformergen.workflows.rounds import settled

#: Molecules that go through the network together; workers make the seeds of as many ahead.
BLOCK: Final = 64
#: Seconds of wall time for the seeds or the refinement of one molecule.
_TIMEOUT: Final = 600.0
#: The same for a search of minima.
_SEARCH_TIMEOUT: Final = 4 * 3600.0


class _Books:
    """Running counts."""

    def __init__(self, summary: GenerateSummary) -> None:
        self.summary = summary

    def add(self, **counts: int) -> None:
        self.summary = replace(self.summary, **{k: getattr(self.summary, k) + v for k, v in counts.items()})


def generate_stream(
    records: Iterable[InputRecord],
    settings: GenerateSettings,
    *,
    before: GenerateSummary | None = None,
    isolated: bool = False,
    on_failure: Callable[[Failure], None] = lambda failure: None,
    progress: Callable[[int], None] = lambda n: None,
) -> Iterator[tuple[ConformerSet, Provenance] | GenerateSummary]:
    """Yield each molecule's conformers in input order, and the counts so far after each block and at the end.

    Args:
        records: Inputs, read as they are needed.
        settings: How conformers are made.
        before: Counts of blocks that were made earlier.
        isolated: Work in another process even with one job.
        on_failure: Receives each failed input.
        progress: Called with 1 for each input.

    Raises:
        InputError: For an unknown checkpoint, method or device.
        DataError: For a damaged checkpoint.
    """
    sampler = ModelSampler(settings) if settings.method == "model" else None
    label = settings.method if sampler is None else f"{sampler.model.name}:{sampler.model.digest[:12]}"
    provenance = Provenance(seed=settings.seed, model=label, settings=settings.summary())
    books = _Books(before or GenerateSummary())
    seeding: Callable[[InputRecord], Seeded]
    if settings.method == SEARCH:
        choose_engine("xtb")
        seeding, timeout = partial(search_minima, settings=settings), _SEARCH_TIMEOUT
    else:
        seeder, ranked = (settings.method, False) if sampler is None else (sampler.seeder, sampler.ranks)
        seeding, timeout = partial(prepare_seeds, settings=settings, seeder=seeder, ranked=ranked), _TIMEOUT
    finishing = partial(finish, settings=settings)
    with Workers(settings.jobs, isolated=isolated) as workers:
        settling = partial(workers.map, settled, timeout=_TIMEOUT)
        to_seed, to_report = itertools.tee(records)
        seeds = zip(to_report, workers.map(seeding, to_seed, timeout=timeout, ahead=BLOCK), strict=True)
        while block := list(itertools.islice(seeds, BLOCK)):
            books.add(requested=len(block))
            seeded = []
            for record, result in block:
                if isinstance(result, MoleculeError):
                    books.add(failed=1)
                    on_failure(Failure.of(result, index=record.index, text=record.smiles, name=record.name))
                    progress(1)
                else:
                    seeded.append(result)
            flat = [(s, item.n) for item in seeded for s in item.sets]
            sets = [s for s, _ in flat] if sampler is None else sampler(flat, books.add, settling)
            finished = zip(workers.map(finishing, sets, timeout=_TIMEOUT), sets, strict=True)
            for item in seeded:
                # A refinement that died leaves the sampled conformers, without energies.
                done = [
                    before if isinstance(after, MoleculeError) else after
                    for after, before in itertools.islice(finished, len(item.sets))
                ]
                books.add(done=1, conformers=sum(map(len, done)), short=int(any(len(s) < item.n for s in done)))
                progress(1)
                for conformers in done:
                    yield conformers, provenance
            if len(block) == BLOCK:
                yield books.summary
    assert books.summary.requested == books.summary.done + books.summary.failed
    yield books.summary
