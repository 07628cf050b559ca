"""SDF and SDF.gz: consecutive records with one title are one ensemble, as OpenEye and Schrödinger write them."""

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from rdkit import Chem

from conformergen.datasets.readers.interface import RawEnsemble

#: SMILES properties, the first present wins.
_SMILES_FIELDS: Final = ("conformergen_smiles", "SMILES", "smiles")
#: Relative energies in kcal/mol and the level they come from.
_ENERGY_FIELDS: Final = (
    ("energy_kcal", "energy_method"),
    ("E_REL_KCAL", "gfn2-xtb"),
    ("E_REL_DLPNO_KCAL", "dlpno-ccsd(t)"),
)


def read(source: Path) -> Iterator[RawEnsemble]:
    """Yield each group of records; a record without a title is a molecule of its own."""
    position, title = 0, ""
    group: list[Chem.Mol] = []
    raw = gzip.open(source, "rb") if source.suffix == ".gz" else source.open("rb")
    with raw:
        for mol in Chem.ForwardSDMolSupplier(raw, removeHs=False):
            if mol is None:
                yield RawEnsemble(smiles="", name="", conformers=[], position=-1, error="unreadable SDF record")
                continue
            name = mol.GetProp("_Name").strip() if mol.HasProp("_Name") else ""
            if group and (name != title or not name):
                yield _ensemble(title, position, group)
                position, group = position + 1, []
            title = name
            group.append(mol)
    if group:
        yield _ensemble(title, position, group)


def _ensemble(title: str, position: int, group: list[Chem.Mol]) -> RawEnsemble:
    first = group[0]
    smiles = next((first.GetProp(f) for f in _SMILES_FIELDS if first.HasProp(f)), "")
    energies, method = None, ""
    for field, level in _ENERGY_FIELDS:
        if all(mol.HasProp(field) and mol.GetProp(field).strip() for mol in group):
            energies = [float(mol.GetProp(field)) for mol in group]
            method = first.GetProp(level) if first.HasProp(level) else level
            break
    return RawEnsemble(
        smiles=smiles,
        name=title or f"mol_{position:06d}",
        conformers=group,
        energies=energies,
        energy_method=method,
        position=position,
    )
