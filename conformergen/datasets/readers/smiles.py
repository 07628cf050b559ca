"""SMILES lists: molecules without reference conformers, for generation and for seeds."""

from collections.abc import Iterator
from pathlib import Path

from conformergen.datasets.inputs import read_inputs
from conformergen.datasets.readers.interface import RawEnsemble


def read(source: Path) -> Iterator[RawEnsemble]:
    """Yield one ensemble without conformers for each line."""
    for record in read_inputs(str(source)):
        yield RawEnsemble(smiles=record.smiles, name=record.name, conformers=[], position=record.index)
