"""Pickles of molecules, the exchange formats of published evaluators; they are read in a disposable process.

Read are ``{smiles: [Mol]}``, GeoDiff's lists of PyG ``Data`` (``samples_all.pkl`` and its data sets), and ET-Flow's
``generated_files.pkl`` and ``.pt`` files. Written is ``{smiles: [Mol]}``; ``formats.pyg`` writes the others.
"""

import pickle
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from rdkit import Chem

from conformergen.chem import mol_with_conformers
from conformergen.errors import DataError, InputError
from conformergen.io.formats.interface import Provenance, RawEnsemble, WholeFileWriter
from conformergen.io.sandbox.process import SandboxReader, unpack_mols
from conformergen.records import ConformerSet
from conformergen.runtime.files import commit_bytes


def read(source: Path) -> Iterator[RawEnsemble]:
    """Yield one ensemble for each key or ``Data``, in the order of the file.

    Raises:
        InputError: When the file is refused or is something else.
    """
    try:
        with SandboxReader() as sandbox:
            header, arrays = sandbox.load(source)
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
    """SMILES without the atom maps that ET-Flow writes; a SMILES without maps is returned unchanged."""
    mol = Chem.MolFromSmiles(smiles) if ":" in smiles else None
    if mol is None or not any(atom.GetAtomMapNum() for atom in mol.GetAtoms()):
        return smiles
    for atom in mol.GetAtoms():
        atom.SetAtomMapNum(0)
    return Chem.MolToSmiles(mol)


class PickleWriter(WholeFileWriter):
    """``{smiles: [Mol]}``, the layout that published evaluators read; keys are the SMILES of the input."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.mols: dict[str, list[Chem.Mol]] = {}

    def write(self, conformers: ConformerSet, provenance: Provenance) -> None:
        del provenance
        molecule = conformers.molecule
        mols = [mol_with_conformers(molecule, p[None]) for p in conformers.positions]
        self.mols.setdefault(molecule.source_smiles, []).extend(mols)

    def close(self) -> None:
        commit_bytes(self.path, pickle.dumps(self.mols))
