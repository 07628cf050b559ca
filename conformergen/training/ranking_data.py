"""Data of the ranker: conformers with GFN2-xTB energies and the MMFF94s energies of what they come from."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from conformergen.chem import mmff_energies, mol_with_conformers
from conformergen.datasets.collate import GraphTables, collate_graphs, pad_positions
from conformergen.datasets.ranked import RankedSet
from conformergen.errors import InputError
from conformergen.io.shards import read_shard
from conformergen.records import ConformerSet, Molecule

#: Energies further than this above the lowest are cut, kcal/mol: such conformers are never returned.
_CEILING: Final = 15.0
#: Errors below this count quadratically, kcal/mol.
_HUBER: Final = 1.0
#: One of this many molecules is held out.
_FOLD: Final = 10


def shard_files(data: Sequence[Path]) -> list[Path]:
    """Shard files of files and folders, in the order of the names in each folder."""
    return [p for path in data for p in (sorted(path.glob("*.h5")) if path.is_dir() else [path])]


def load_ranked(data: Sequence[Path]) -> list[RankedSet]:
    """Molecules of shard files or folders, except those of the test split, in the order of the names.

    Raises:
        InputError: When there is none with energies.
    """
    entries = [e for f in shard_files(data) for e in read_shard(f) if e.split != "test"]
    sets = [with_baseline(e.conformers) for e in entries if e.conformers.energies is not None]
    if not sets:
        raise InputError("no conformers with energies in the data")
    return [s for s in sets if np.isfinite(s.baseline).all()]


def with_baseline(conformers: ConformerSet) -> RankedSet:
    """Add MMFF94s energies (NaN without parameters).

    Of references that have start structures, from which they were optimised, the start structures are ranked.
    """
    if conformers.starts is not None:
        conformers = replace(conformers, positions=conformers.starts, starts=None)
    mol = mol_with_conformers(conformers.molecule, conformers.positions)
    return RankedSet(conformers=conformers, baseline=mmff_energies(mol))


def is_held_out(molecule: Molecule) -> bool:
    """Whether a molecule is held out of the training of every ranker and torsion model."""
    return molecule.key[0] % _FOLD == 0


def split_ranked(sets: Sequence[RankedSet]) -> tuple[list[RankedSet], list[RankedSet]]:
    """Molecules to train on, and those that are held out."""
    parts: tuple[list[RankedSet], list[RankedSet]] = ([], [])
    for s in sets:
        parts[is_held_out(s.conformers.molecule)].append(s)
    return parts


class RankingData:
    """Molecules in memory, with their tables of atom pairs.

    Raises:
        InputError: Without any molecule that has at least two conformers with energies.
    """

    def __init__(self, sets: Sequence[RankedSet]) -> None:
        self.sets = [s for s in sets if len(s.conformers) > 1 and s.conformers.energies is not None]
        if not self.sets:
            raise InputError("the ranking data contain no molecule with two conformers and energies")
        self.tables = [GraphTables(s.conformers.molecule.graph) for s in self.sets]

    def loss(self, network: nn.Module, chosen: Sequence[tuple[int, np.ndarray]], device: torch.device) -> Tensor:
        """Mean pseudo-Huber error, in kcal/mol, of the centred energies of some conformers of some molecules.

        Args:
            network: Ranker.
            chosen: Index of each molecule, and indices of its conformers.
            device: Device of the ranker.
        """
        graph = collate_graphs([self.tables[i] for i, rows in chosen for _ in rows]).to(device)
        positions = [self.sets[i].conformers.positions[r] for i, rows in chosen for r in rows]
        owner = torch.tensor([k for k, (_, rows) in enumerate(chosen) for _ in rows], device=device)

        def column(values: list[np.ndarray]) -> Tensor:
            return torch.from_numpy(np.concatenate(values).astype(np.float32)).to(device)

        wanted = column([_cut(self.sets[i].conformers.energies)[rows] for i, rows in chosen])
        baseline = column([_cut(self.sets[i].baseline)[rows] for i, rows in chosen])
        x = pad_positions(positions, graph.mask.shape[1]).to(device)
        error = network(graph, x, baseline) - wanted
        counts = torch.bincount(owner).to(error.dtype)
        error = error - (torch.zeros_like(counts).index_add_(0, owner, error) / counts)[owner]
        return _HUBER * ((1.0 + (error / _HUBER).square()).sqrt() - 1.0).mean()


def _cut(energies: np.ndarray | None) -> np.ndarray:
    """Energies above the lowest, cut at the ceiling."""
    assert energies is not None
    return np.minimum(energies - energies.min(), _CEILING)
