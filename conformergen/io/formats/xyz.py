"""Multi-frame XYZ, as CREST writes it: without bonds, in an atom order of its own, with energies in the comments.

A file of the same stem beside it (``crest_conformers.smi``) may hold the SMILES. Bonds are then perceived from
distances and matched to the graph of the SMILES, which gives bond orders and charges. Without it bond orders are
perceived too.
"""

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
from rdkit import Chem
from rdkit.Chem import rdDetermineBonds

from conformergen.chem import ELEMENT_SYMBOLS, parse_smiles, perceive
from conformergen.errors import InputError, MoleculeError
from conformergen.io.formats.interface import Provenance, RawEnsemble, TextWriter
from conformergen.records import ConformerSet
from conformergen.units import HARTREE_TO_KCAL

#: Total charges that are tried where no SMILES states the charge, in units of the electron charge.
_CHARGES: Final = (0, 1, -1, 2, -2)
#: A number in a comment below this value, in hartree, is a total energy, as in CREST's files.
_TOTAL: Final = -1.0


def read(source: Path) -> Iterator[RawEnsemble]:
    """Yield the one ensemble of the file, or, for a file of ``generate``, one for each molecule.

    Raises:
        InputError: For a torn or unreadable file.
    """
    opener = gzip.open if source.suffix == ".gz" else open
    with opener(source, "rt", encoding="utf-8", errors="replace") as file:
        frames = list(_frames(file.read().splitlines(), source))
    beside = source.with_name(source.name.removesuffix(".gz")).with_suffix(".smi")
    smiles = beside.read_text(encoding="utf-8").split()[0] if beside.is_file() else ""
    begin = 0
    for end in range(1, len(frames) + 1):
        if end == len(frames) or frames[end][0] != frames[begin][0] or _title(frames[end][1])[1] == 0:
            yield _ensemble(source, smiles, frames[begin:end], position=begin)
            begin = end


#: Element symbols, comment and positions in Å of one frame.
Frame = tuple[list[str], str, np.ndarray]


def _frames(lines: list[str], source: Path) -> Iterator[Frame]:
    """Frames of the text."""
    at = 0
    while at < len(lines):
        if not lines[at].strip():
            at += 1
            continue
        try:
            n = int(lines[at])
            rows = [line.split() for line in lines[at + 2 : at + 2 + n]]
            positions = np.array([[float(x) for x in row[1:4]] for row in rows]).reshape(n, 3)
        except ValueError as error:
            raise InputError(f"{source}, line {at + 1}: no XYZ frame") from error
        yield [row[0].capitalize() for row in rows], lines[at + 1], positions
        at += n + 2


def _ensemble(source: Path, smiles: str, frames: list[Frame], *, position: int) -> RawEnsemble:
    name = _title(frames[0][1])[0] or source.name.split(".")[0]
    template = None
    if smiles:
        try:
            template = Chem.AddHs(parse_smiles(smiles))
        except MoleculeError as error:
            raise InputError(f"{source}: {error} (in the .smi beside it)") from error
    found = [(_molecule(symbols, xyz, template), _energy(comment)) for symbols, comment, xyz in frames]
    kept = [(mol, energy) for mol, energy in found if mol is not None]
    if not kept:
        return RawEnsemble(smiles=smiles, name=name, conformers=[], error="no frame has the bonds of a molecule")
    totals = [energy for _, energy in kept if energy is not None]
    energies = None
    if len(totals) == len(kept):
        energies = [(e - min(totals)) * HARTREE_TO_KCAL for e in totals]
    mols = [mol for mol, _ in kept]
    text = smiles or Chem.MolToSmiles(perceive(mols[0]))
    return RawEnsemble(smiles=text, name=name, conformers=mols, energies=energies, position=position)


def _title(comment: str) -> tuple[str, int | None]:
    """Title and conformer index of a comment written by ``XyzWriter``; CREST's comments have an energy only."""
    words = comment.split()
    if len(words) < 2 or not words[-1].isdigit():
        return "", None
    begin = 1 if len(words) > 2 and words[0].replace(".", "", 1).isdigit() else 0
    return " ".join(words[begin:-1]), int(words[-1])


def _energy(comment: str) -> float | None:
    """Total energy in hartree, the first number of a CREST comment."""
    for word in comment.split():
        try:
            value = float(word)
        except ValueError:
            continue
        return value if value < _TOTAL else None
    return None


def _molecule(symbols: list[str], positions: np.ndarray, template: Chem.Mol | None) -> Chem.Mol | None:
    """Molecule of one frame; None where its bonds are not those of a molecule or of the template."""
    editable = Chem.RWMol()
    try:
        for symbol in symbols:
            editable.AddAtom(Chem.Atom(symbol))
    except (RuntimeError, ValueError):
        return None
    conformer = Chem.Conformer(len(symbols))
    conformer.SetPositions(np.ascontiguousarray(positions))
    mol = editable.GetMol()
    mol.AddConformer(conformer)
    if template is not None:
        rdDetermineBonds.DetermineConnectivity(mol)
        match = _blank(mol).GetSubstructMatch(_blank(template))
        if len(match) != len(symbols) or mol.GetNumBonds() != template.GetNumBonds():
            return None
        result = Chem.Mol(template)
        ordered = Chem.Conformer(len(symbols))
        ordered.SetPositions(np.ascontiguousarray(positions[list(match)]))
        result.AddConformer(ordered)
        return result
    for charge in _CHARGES:
        attempt = Chem.Mol(mol)
        try:
            rdDetermineBonds.DetermineBonds(attempt, charge=charge)
            Chem.SanitizeMol(attempt)
        except (ValueError, RuntimeError):
            continue
        return attempt
    return None


def _blank(mol: Chem.Mol) -> Chem.Mol:
    """Graph of elements and bonds, without bond orders, charges or stereo."""
    blank = Chem.RWMol()
    for atom in mol.GetAtoms():
        blank.AddAtom(Chem.Atom(atom.GetAtomicNum()))
    for bond in mol.GetBonds():
        blank.AddBond(bond.GetBeginAtomIdx(), bond.GetEndAtomIdx(), Chem.BondType.SINGLE)
    return blank.GetMol()


class XyzWriter(TextWriter):
    """Multi-frame XYZ; the comment holds the relative energy first, as in CREST's files, then title and index."""

    def write(self, conformers: ConformerSet, provenance: Provenance) -> None:
        del provenance
        symbols = [ELEMENT_SYMBOLS[z] for z in conformers.molecule.graph.atomic_numbers]
        for index, positions in enumerate(conformers.positions):
            energy = "" if conformers.energies is None else f"{conformers.energies[index]:.4f} "
            rows = [f"{s} {x:.6f} {y:.6f} {z:.6f}" for s, (x, y, z) in zip(symbols, positions, strict=True)]
            title = " ".join(conformers.molecule.name.split())
            self.text("\n".join([str(len(symbols)), f"{energy}{title} {index}", *rows]) + "\n")
