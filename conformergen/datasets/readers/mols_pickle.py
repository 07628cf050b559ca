"""``{smiles: [Mol]}`` pickles, the exchange format of the published evaluators; read in a disposable process."""

from collections.abc import Iterator
from pathlib import Path

from conformergen.datasets.readers.interface import RawEnsemble, unpack_mols
from conformergen.datasets.unpickle import UnpickleChild
from conformergen.errors import DataError, InputError


def read(source: Path) -> Iterator[RawEnsemble]:
    """Yield one ensemble for each key, in the order of the file.

    Raises:
        InputError: When the file is refused or is something else.
    """
    try:
        with UnpickleChild() as child:
            header, arrays = child.load(source)
    except DataError as error:
        raise InputError(str(error)) from error
    if "keys" not in header:
        raise InputError(f"{source}: no pickle of {{smiles: [Mol]}}")
    mols = unpack_mols(arrays)
    begin = 0
    for position, (smiles, count) in enumerate(zip(header["keys"], header["counts"], strict=True)):
        conformers = [mol for mol in mols[begin : begin + count] if mol is not None]
        begin += count
        yield RawEnsemble(smiles=smiles, name=smiles, conformers=conformers, position=position)
