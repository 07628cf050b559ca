"""Training batches: shuffled molecules in buckets of similar size, as a pure function of (seed, epoch, cursor)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from conformergen.datasets.collate import GraphTables, collate_graphs, pad_positions
from conformergen.errors import InputError
from conformergen.records import ConformerSet
from conformergen.records.batch import GraphBatch

#: Number of batches whose molecules are sorted by size together: a compromise between shuffling and padding.
_BUCKET: Final = 16

#: Epoch, cursor after the batch, and (molecule, conformer) examples of the batch.
PlannedBatch = tuple[int, int, list[tuple[int, int]]]


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class TrainingBatch:
    """Reference conformers and their start structures in one frame, Å."""

    graph: GraphBatch
    data: Float32[Tensor, "batch atom 3"]
    starts: Float32[Tensor, "batch atom 3"] | None

    def to(self, device: torch.device | str) -> "TrainingBatch":
        """Copy to a device."""
        starts = None if self.starts is None else self.starts.to(device, non_blocking=True)
        return TrainingBatch(graph=self.graph.to(device), data=self.data.to(device, non_blocking=True), starts=starts)


class TrainingSet:
    """Ensembles in memory, with their tables of atom pairs.

    Args:
        sets: Ensembles with at least one conformer each.
        pair_budget: Padded atom pairs in one batch.
        confs_per_epoch: Largest number of conformers drawn from each molecule in one epoch.

    Raises:
        InputError: Without any conformer.
    """

    def __init__(self, sets: Sequence[ConformerSet], *, pair_budget: int, confs_per_epoch: int) -> None:
        self.sets = [s for s in sets if len(s)]
        if not self.sets:
            raise InputError("the training data hold no conformer")
        self.pair_budget = pair_budget
        self.confs_per_epoch = confs_per_epoch
        self.tables = [GraphTables(s.molecule.graph) for s in self.sets]

    @property
    def has_starts(self) -> bool:
        """Whether every ensemble has start structures."""
        return all(s.starts is not None for s in self.sets)

    def plan(self, seed: int, epoch: int) -> list[list[tuple[int, int]]]:
        """Batches of (molecule, conformer) of one epoch."""
        rng = np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, epoch])))
        examples = [
            (index, int(conformer))
            for index, s in enumerate(self.sets)
            for conformer in rng.permutation(len(s))[: self.confs_per_epoch]
        ]
        order = [examples[i] for i in rng.permutation(len(examples))]
        typical = np.mean([t.graph.n_atoms**2 for t in self.tables])
        bucket = max(1, int(_BUCKET * self.pair_budget / typical))
        batches: list[list[tuple[int, int]]] = []
        for begin in range(0, len(order), bucket):
            current: list[tuple[int, int]] = []
            for example in sorted(order[begin : begin + bucket], key=lambda e: self.tables[e[0]].graph.n_atoms):
                n = self.tables[example[0]].graph.n_atoms
                if current and (len(current) + 1) * n * n > self.pair_budget:
                    batches.append(current)
                    current = []
                current.append(example)
            batches.append(current)
        return [batches[i] for i in rng.permutation(len(batches))]

    def collate(self, examples: Sequence[tuple[int, int]]) -> TrainingBatch:
        """Tensors of one batch."""
        graph = collate_graphs([self.tables[i] for i, _ in examples])
        n = graph.mask.shape[1]
        data = pad_positions([self.sets[i].positions[c] for i, c in examples], n)
        starts = None
        if self.has_starts:
            rows = [self.sets[i].starts for i, _ in examples]
            starts = pad_positions([s[c] for s, (_, c) in zip(rows, examples, strict=True) if s is not None], n)
        return TrainingBatch(graph=graph, data=data, starts=starts)

    def stream(self, seed: int, epoch: int, cursor: int) -> Iterator[PlannedBatch]:
        """Planned batches without end, from a position on; ``collate`` makes tensors of their examples."""
        while True:
            plan = self.plan(seed, epoch)
            for position in range(cursor, len(plan)):
                yield epoch, position + 1, plan[position]
            epoch, cursor = epoch + 1, 0
