"""Inputs of ``generate`` and ``reference``: one SMILES, standard input, or a .smi, .csv or .sdf file, also .gz."""

import csv
import gzip
import io
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rdkit import Chem

from conformergen.errors import InputError

#: Characters from which on an argument is a SMILES, because no system opens such a path.
_LONGEST_PATH: Final = 4096


@dataclass(frozen=True, kw_only=True, slots=True)
class InputRecord:
    """One requested molecule.

    Attributes:
        index: Position in the input, from 0.
        smiles: Text as given; empty where an SDF record could not be read.
        name: Title as given; ``mol_000017`` where there is none.
        n_references: K of the published test lists (column ``n_conformers``), or None.
    """

    index: int
    smiles: str
    name: str
    n_references: int | None = None


def read_inputs(source: str, *, smiles_column: str = "smiles", name_column: str = "name") -> Iterator[InputRecord]:
    """Yield the molecules of ``source`` in order.

    Raises:
        InputError: For a missing file, an unknown suffix or a missing column.
    """
    if source == "-":
        return _number(_smi(sys.stdin))
    path = Path(source)
    suffixes = [s.lower() for s in path.suffixes if s.lower() != ".gz"]
    kind = suffixes[-1] if suffixes else ""
    if kind not in (".smi", ".smiles", ".txt", ".csv", ".sdf"):
        if len(source) < _LONGEST_PATH and path.exists():
            raise InputError(f"{source}: input files end in .smi, .csv or .sdf, or these with .gz")
        return _number(iter([(source, "", None)]))
    if not path.is_file():
        raise InputError(f"{source}: no such file")
    if kind == ".csv":
        return _number(_csv(path, smiles_column, name_column))
    if kind == ".sdf":
        return _number(_sdf(path))
    return _number(_smi_file(path))


def open_text(path: Path) -> io.TextIOWrapper:
    """Open a text file, decompressing by suffix; bytes that are not UTF-8 become replacement characters."""
    raw = gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")
    return io.TextIOWrapper(raw, encoding="utf-8", errors="replace", newline=None)


#: SMILES, title and number of references of one input.
_Line = tuple[str, str, int | None]


def _number(lines: Iterator[_Line]) -> Iterator[InputRecord]:
    for index, (smiles, name, n_references) in enumerate(lines):
        yield InputRecord(index=index, smiles=smiles, name=name or f"mol_{index:06d}", n_references=n_references)


def _smi(lines: Iterable[str]) -> Iterator[_Line]:
    first = True
    for line in lines:
        text = line.strip().lstrip("\ufeff")
        if not text or text.startswith("#"):
            continue
        smiles, _, name = text.replace("\t", " ").partition(" ")
        header, first = first and smiles.lower() in ("smiles", "smi"), False
        if not header:
            yield smiles, name.strip(), None


def _smi_file(path: Path) -> Iterator[_Line]:
    with open_text(path) as lines:
        yield from _smi(lines)


def _csv(path: Path, smiles_column: str, name_column: str) -> Iterator[_Line]:
    with open_text(path) as lines:
        reader = csv.DictReader(lines)
        columns = {c.strip().lower(): c for c in reader.fieldnames or []}
        key = columns.get(smiles_column.lower())
        if key is None:
            raise InputError(f"{path}: no column {smiles_column!r}; it has {', '.join(columns) or 'none'}")
        name_key = columns.get(name_column.lower()) or columns.get("id")
        for row in reader:
            count = (row.get(columns.get("n_conformers", "")) or "").strip()
            name = (row.get(name_key) or "").strip() if name_key else ""
            yield (row[key] or "").strip(), name, int(count) if count.isdigit() else None


def _sdf(path: Path) -> Iterator[_Line]:
    raw = gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")
    with raw:
        for mol in Chem.ForwardSDMolSupplier(raw, removeHs=True):
            if mol is None:
                yield "", "", None
                continue
            if mol.GetNumConformers() and mol.GetConformer().Is3D():
                Chem.AssignStereochemistryFrom3D(mol)
            name = mol.GetProp("_Name") if mol.HasProp("_Name") else ""
            yield Chem.MolToSmiles(mol), name, None
