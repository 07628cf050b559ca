"""SMILES lists: molecules without reference conformers."""

from collections.abc import Iterator
from pathlib import Path

from conformergen.io.formats.interface import RawEnsemble
from conformergen.io.inputs import read_inputs


def read(source: Path) -> Iterator[RawEnsemble]:
    """Yield one ensemble without conformers for each line."""
    for record in read_inputs(str(source)):
        yield RawEnsemble(smiles=record.smiles, name=record.name, conformers=[], position=record.index)
