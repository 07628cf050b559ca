"""The pipeline over many molecules: starts in worker processes, networks over blocks, refinement in workers again."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np

from conformergen.checkpoint.folder import find_torsion_model
from conformergen.errors import MoleculeError
from conformergen.generation.finish import finish
from conformergen.generation.samples import Samples
from conformergen.generation.selection import n_unique, ranked_selection, select_with_mirrors
from conformergen.generation.settings import SEARCH, GenerateSettings, GenerateSummary
from conformergen.generation.starts import Starts, make_starts, search_minima
from conformergen.io.formats import Provenance
from conformergen.io.inputs import InputRecord
from conformergen.records import ConformerSet, Failure, Fallback
from conformergen.refinement.engines import choose_engine
from conformergen.runtime.workers import Workers

if TYPE_CHECKING:
    from conformergen.checkpoint.model import Model

#: Molecules that go through the network together; workers prepare as many ahead.
BLOCK: Final = 64
#: Time limit of the starts or of the refinement of one molecule, seconds of wall time.
_TIMEOUT: Final = 600.0
#: Time limit of a search of minima, seconds of wall time.
_SEARCH_TIMEOUT: Final = 4 * 3600.0


class RunCounter:
    """Running counts of one run."""

    def __init__(self, summary: GenerateSummary) -> None:
        self.summary = summary

    def add(self, **counts: int) -> None:
        """Add to some of the counts."""
        self.summary = replace(self.summary, **{k: getattr(self.summary, k) + v for k, v in counts.items()})


@dataclass(frozen=True, kw_only=True)
class Block:
    """Results of one block of inputs.

    Attributes:
        conformers: Conformers of each molecule, in input order.
        summary: Counts of the run up to the end of the block.
    """

    conformers: list[ConformerSet]
    summary: GenerateSummary


class Pipeline:
    """Generation with one set of settings; the networks are loaded once.

    Attributes:
        provenance: What every record says about its origin.

    Raises:
        InputError: For an unknown checkpoint, method or device.
        DataError: For a damaged checkpoint.
    """

    def __init__(self, settings: GenerateSettings) -> None:
        self.settings = settings
        self._networks = _Networks(settings) if settings.method == "model" else None
        torsion_model, networks = None, {}
        if self._networks is not None:
            torsion_model, networks = self._networks.model.torsion_model, dict(self._networks.model.digests)
        elif settings.method == "torsion+mmff94s":
            torsion_model = find_torsion_model(settings.checkpoint)
            networks = {"torsion_model": torsion_model.digest}
        self.provenance = Provenance(
            seed=settings.seed,
            model=settings.method if self._networks is None else self._networks.model.label,
            settings=settings.summary(),
            networks=networks,
        )
        self._prepare: Callable[[InputRecord], Starts]
        if settings.method == SEARCH:
            choose_engine("xtb")
            self._prepare, self._timeout = partial(search_minima, settings=settings), _SEARCH_TIMEOUT
        else:
            method = settings.method if self._networks is None else self._networks.start_method
            ranked = self._networks is not None and self._networks.ranks
            self._prepare = partial(
                make_starts, settings=settings, start_method=method, ranked=ranked, torsion_model=torsion_model
            )
            self._timeout = _TIMEOUT

    def blocks(
        self,
        records: Iterable[InputRecord],
        *,
        before: GenerateSummary | None = None,
        isolated: bool = False,
        on_failure: Callable[[Failure], None] = lambda failure: None,
        progress: Callable[[int], None] = lambda n: None,
    ) -> Iterator[Block]:
        """Yield the conformers block by block, in input order.

        Args:
            records: Inputs, read as they are needed.
            before: Counts of blocks that were made earlier.
            isolated: Use worker processes even for one job.
            on_failure: Receives each failed input.
            progress: Called with 1 for each input.
        """
        counter = RunCounter(before or GenerateSummary())
        with Workers(self.settings.jobs, isolated=isolated) as workers:
            to_prepare, to_report = itertools.tee(records)
            prepared = zip(
                to_report,
                workers.map(self._prepare, to_prepare, timeout=self._timeout, ahead=BLOCK),
                strict=True,
            )
            while block := list(itertools.islice(prepared, BLOCK)):
                counter.add(requested=len(block))
                starts = []
                for record, result in block:
                    if isinstance(result, MoleculeError):
                        counter.add(failed=1)
                        on_failure(Failure.of(result, index=record.index, text=record.smiles, name=record.name))
                        progress(1)
                    else:
                        starts.append(result)
                conformers = self._finish_block(starts, workers, counter, progress)
                yield Block(conformers=conformers, summary=counter.summary)
        assert counter.summary.requested == counter.summary.done + counter.summary.failed

    def _finish_block(
        self, starts: list[Starts], workers: Workers, counter: RunCounter, progress: Callable[[int], None]
    ) -> list[ConformerSet]:
        """Sample, refine and count the molecules of one block."""
        sets = [(conformers, item.n) for item in starts for conformers in item.sets]
        sampled = [s for s, _ in sets] if self._networks is None else self._networks(sets, workers, counter)
        work = partial(finish, settings=self.settings)
        finished = zip(workers.map(work, sampled, timeout=_TIMEOUT), sampled, strict=True)
        result: list[ConformerSet] = []
        for item in starts:
            # Where a refinement died, the sampled conformers are returned without energies.
            done = [
                before if isinstance(after, MoleculeError) else after
                for after, before in itertools.islice(finished, len(item.sets))
            ]
            short = int(any(len(s) < item.n for s in done))
            counter.add(done=1, conformers=sum(map(len, done)), short=short)
            progress(1)
            result += done
        return result


class _Networks:
    """The networks of a model, applied to a block of molecules: rounds, then selection by the ranker."""

    def __init__(self, settings: GenerateSettings) -> None:
        from conformergen.checkpoint.model import load_model
        from conformergen.generation.rounds import round_settings
        from conformergen.runtime.devices import limit_threads, resolve_device

        limit_threads()
        self.settings = settings
        self._device = resolve_device(settings.device)
        self.model: Model = load_model(settings.checkpoint, device=self._device)
        self.start_method = settings.start
        if settings.start == "auto":
            self.start_method = "torsion+mmff94s" if self.model.starts_mmff94s else "etkdg"
        self.ranks = self.start_method == "torsion+mmff94s" and self.model.ranker is not None
        self._rounds = round_settings(
            ranked=self.ranks,
            rounds=settings.rounds,
            steps=settings.steps,
            sampler=settings.sampler,
            seed=settings.seed,
        )

    def __call__(
        self, sets: list[tuple[ConformerSet, int]], workers: Workers, counter: RunCounter
    ) -> list[ConformerSet]:
        """As many verified conformers of each molecule as are asked for, from its starts."""
        from conformergen.generation.rounds import run_rounds

        starts = [self._starts(conformers, n) for conformers, n in sets]
        sampled = run_rounds(self.model, starts, self._rounds, workers=workers, device=self._device, count=counter.add)
        selected = [self._select(samples, n) for samples, (_, n) in zip(sampled, sets, strict=True)]
        counter.add(fallback=sum(int(np.count_nonzero(s.fallback == Fallback.START)) for s in selected))
        return selected

    def _starts(self, conformers: ConformerSet, n: int) -> Samples:
        """Candidates for the ranker; without one, a start for every conformer."""
        ranked = self.ranks and conformers.energies is not None
        if not ranked:
            conformers = conformers.select(np.resize(np.arange(len(conformers)), n))
        assert conformers.fallback is not None
        return Samples(
            molecule=conformers.molecule,
            positions=conformers.positions,
            mmff_energies=conformers.energies if ranked else None,
            fallback=conformers.fallback,
            n_final=n_unique(conformers.molecule, n) if ranked else n,
        )

    def _select(self, samples: Samples, n: int) -> ConformerSet:
        """The ``n`` conformers that the ranker prefers; without predicted energies the samples as they are."""
        from conformergen.generation.rounds import ranked_energies

        positions, fallback = samples.positions, samples.fallback
        if samples.mmff_energies is not None:
            assert self.model.ranker is not None
            energies = ranked_energies(self.model.ranker, samples)
            settings = ranked_selection(samples.molecule, self.settings.ewin)
            selection = select_with_mirrors(samples.molecule, energies, n, seed=self.settings.seed, settings=settings)
            positions, fallback = selection.apply(positions), fallback[selection.rows]
        return ConformerSet(molecule=samples.molecule, positions=positions, fallback=fallback)
