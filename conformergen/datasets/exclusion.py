"""Molecules that must not enter a data set, by name or by connectivity."""

import fnmatch
from collections.abc import Iterator, Sequence

from rdkit import Chem

from conformergen.io.formats import RawEnsemble
from conformergen.io.inputs import read_inputs


class Exclusion:
    """Leaves out molecules and counts them.

    Args:
        names: Shell patterns of names.
        smiles_lists: Files of molecules (.smi or .csv), compared by ``connectivity_key``.

    Attributes:
        count: Molecules left out so far.
    """

    def __init__(self, names: Sequence[str], smiles_lists: Sequence[str]) -> None:
        self.count = 0
        self._names = names
        self._keys: set[str] = set()
        for path in smiles_lists:
            self._keys |= {connectivity_key(record.smiles) for record in read_inputs(path)} - {""}

    def __call__(self, ensembles: Iterator[RawEnsemble]) -> Iterator[RawEnsemble]:
        """Yield the ensembles that may stay."""
        for raw in ensembles:
            if any(fnmatch.fnmatchcase(raw.name, pattern) for pattern in self._names) or (
                self._keys and connectivity_key(raw.smiles) in self._keys
            ):
                self.count += 1
            else:
                yield raw


def connectivity_key(smiles: str) -> str:
    """First block of the InChIKey, which all stereoisomers share; empty where InChI has none."""
    mol = Chem.MolFromSmiles(smiles)
    return "" if mol is None else Chem.MolToInchiKey(mol).partition("-")[0]
