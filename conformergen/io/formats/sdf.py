"""SDF and SDF.gz: consecutive records with one title are one ensemble, as OpenEye and Schrödinger write them."""

import gzip
import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
from rdkit import Chem

from conformergen.chem import mol_with_conformers
from conformergen.io.formats.interface import Provenance, RawEnsemble, TextWriter, Writer
from conformergen.records import ConformerSet, Fallback

#: Properties that may hold the SMILES; the first that is present is used.
_SMILES_FIELDS: Final = ("conformergen_smiles", "SMILES", "smiles")
#: Properties with relative energies in kcal/mol; for each the property that names the method, or the method itself.
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
    for field, theory in _ENERGY_FIELDS:
        if all(mol.HasProp(field) and mol.GetProp(field).strip() for mol in group):
            energies = [float(mol.GetProp(field)) for mol in group]
            method = first.GetProp(theory) if first.HasProp(theory) else theory
            break
    return RawEnsemble(
        smiles=smiles,
        name=title or f"mol_{position:06d}",
        conformers=group,
        energies=energies,
        energy_method=method,
        position=position,
    )


class SdfWriter(TextWriter):
    """One SDF record for each conformer."""

    def write(self, conformers: ConformerSet, provenance: Provenance) -> None:
        self.text(sdf_text(conformers, provenance))


class StdoutWriter(Writer):
    """SDF on standard output."""

    def write(self, conformers: ConformerSet, provenance: Provenance) -> None:
        sys.stdout.write(sdf_text(conformers, provenance))

    def close(self) -> None:
        sys.stdout.flush()

    def discard(self, *, keep: bool = False) -> None:
        del keep
        sys.stdout.flush()


def sdf_text(conformers: ConformerSet, provenance: Provenance) -> str:
    """SDF records of one molecule."""
    molecule = conformers.molecule
    mol = mol_with_conformers(molecule, conformers.positions)
    mol.SetProp("_Name", " ".join(molecule.name.splitlines()))
    buffer = io.StringIO()
    writer = Chem.SDWriter(buffer)
    writer.SetKekulize(True)  # noqa: FBT003  RDKit takes no keyword
    for index in range(len(conformers)):
        fields = {
            "conformergen_smiles": molecule.smiles,
            "conformergen_stereo": molecule.stereo,
            "conformer": str(index),
            "energy_kcal": _number(conformers.energies, index, "{:.4f}"),
            "energy_method": conformers.energy_method,
            "boltzmann_weight": _number(conformers.weights, index, "{:.6f}"),
            "seed": str(provenance.seed),
            "model": provenance.model,
            "model_digests": provenance.short_digests,
            "settings": provenance.settings,
            "fallback": "" if conformers.fallback is None else Fallback(conformers.fallback[index]).label,
        }
        for key, value in fields.items():
            mol.SetProp(key, value)
        writer.write(mol, confId=index)
    writer.close()
    return buffer.getvalue()


def _number(values: np.ndarray | None, index: int, form: str) -> str:
    return "" if values is None else form.format(values[index])
