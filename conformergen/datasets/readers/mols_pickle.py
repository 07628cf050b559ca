"""Pickles of molecules, read in a disposable process: the exchange formats of the published evaluators.

``{smiles: [Mol]}``; GeoDiff's lists of PyG ``Data`` (``samples_all.pkl`` and its data sets); ET-Flow's
``generated_files.pkl`` and ``.pt`` files.
"""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from rdkit import Chem

from conformergen.datasets.reader_process import ReaderChild
from conformergen.datasets.readers.interface import RawEnsemble, unpack_mols
from conformergen.errors import DataError, InputError


def read(source: Path) -> Iterator[RawEnsemble]:
    """Yield one ensemble for each key or ``Data``, in the order of the file.

    Raises:
        InputError: When the file is refused or is something else.
    """
    try:
        with ReaderChild() as child:
            header, arrays = child.load(source)
    except DataError as error:
        raise InputError(str(error)) from error
    if "keys" not in header:
        raise InputError(f"{source}: a GEOM pickle; give its folder")
    mols = iter(unpack_mols(arrays))
    references = iter(unpack_mols({k.removeprefix("reference_"): a for k, a in arrays.items() if "reference_" in k}))
    reference_counts = header.get("reference_counts", [0] * len(header["keys"]))
    for position, (key, count, n_ref) in enumerate(
        zip(header["keys"], header["counts"], reference_counts, strict=True)
    ):
        smiles = _without_maps(key)
        yield RawEnsemble(
            smiles=smiles,
            name=smiles,
            conformers=[mol for mol in islice(mols, count) if mol is not None],
            references=[mol for mol in islice(references, n_ref) if mol is not None],
            position=position,
        )


def _without_maps(smiles: str) -> str:
    """ET-Flow's atom-mapped SMILES as a plain one; others as they are."""
    mol = Chem.MolFromSmiles(smiles) if ":" in smiles else None
    if mol is None or not any(atom.GetAtomMapNum() for atom in mol.GetAtoms()):
        return smiles
    for atom in mol.GetAtoms():
        atom.SetAtomMapNum(0)
    return Chem.MolToSmiles(mol)
