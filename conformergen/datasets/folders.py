"""Ensembles of shard folders, and what a checkpoint says about them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from conformergen.errors import InputError
from conformergen.io.manifest import read_manifest
from conformergen.io.shards import read_folder
from conformergen.records import ConformerSet


def load_sets(folders: Sequence[Path], split: str) -> list[ConformerSet]:
    """Ensembles of one split of several shard folders, without those that have no conformer."""
    return [s for folder in folders for s in read_folder(folder, split=split) if len(s)]


def starts_are_minimised(folders: Sequence[Path]) -> bool:
    """Whether the start structures in the shards were minimised with MMFF94s.

    Raises:
        InputError: When the folders differ in this.
    """
    kinds = {read_manifest(folder).starts_are_minimised for folder in folders}
    if len(kinds) != 1:
        raise InputError("the shard folders contain different kinds of start structures")
    return kinds.pop() is not False


def data_record(
    folders: Sequence[Path], training: Sequence[ConformerSet], validation: Sequence[ConformerSet]
) -> dict[str, Any]:
    """Names of the folders, digests of the shards, and counts."""
    return {
        "shards": {folder.name: [line.content_sha256 for line in read_manifest(folder).shards] for folder in folders},
        "molecules": len(training),
        "conformers": sum(len(s) for s in training),
        "validation_molecules": len(validation),
    }
