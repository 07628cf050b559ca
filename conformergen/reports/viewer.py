"""A self-contained page that shows conformers offline: 3D with overlay, slider, energies and torsions."""

import html
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from rdkit import Chem

from conformergen.chem import get_torsions, heavy_atoms, rotatable_torsions
from conformergen.errors import InputError
from conformergen.geometry.rmsd import kabsch_rotation
from conformergen.io.formats import read_ensembles
from conformergen.reports.pages import render_page, script_json
from conformergen.runtime.files import commit_bytes

#: Largest number of molecules on one page, which a browser has to parse.
MAX_MOLECULES: Final = 50
#: Largest number of conformers of one molecule on a page.
MAX_CONFORMERS: Final = 100


@dataclass(frozen=True, kw_only=True)
class View:
    """A page of conformers; shows itself in a notebook.

    Attributes:
        page: HTML.
    """

    page: str

    def _repr_html_(self) -> str:
        """Frame for Jupyter."""
        return f'<iframe srcdoc="{html.escape(self.page)}" width="100%" height="640" style="border:0"></iframe>'

    def save(self, path: "str | Path") -> None:
        """Write the page."""
        commit_bytes(Path(path), self.page.encode())


def view(source: "Chem.Mol | str | Path") -> View:
    """Page of the conformers of one molecule, or of the molecules of a file.

    Args:
        source: Molecule with conformers, or a file or folder of any format that ``evaluate`` reads.

    Returns:
        A view: ``view(mol).save("view.html")``; in Jupyter it shows itself.

    Raises:
        InputError: For an unreadable file, one without conformers, or where Jinja2 is not installed.

    Example:
        >>> import conformergen
        >>> mol = conformergen.generate("CCCCO", n=3)
        >>> "3Dmol" in conformergen.view(mol).page
        True
    """
    found: list[tuple[str, list[Chem.Mol], list[float] | None]]
    if isinstance(source, Chem.Mol):
        name = source.GetProp("_Name") if source.HasProp("_Name") else ""
        found = [(name, [Chem.Mol(source, confId=c.GetId()) for c in source.GetConformers()], None)]
        total = 1
    else:
        path = Path(source)
        raws = [r for r in read_ensembles(path) if r.conformers]
        found = [(r.name, r.conformers, r.energies) for r in raws[:MAX_MOLECULES]]
        total = len(raws)
    molecules = [_entry(name, mols, energies) for name, mols, energies in found if mols]
    if not molecules:
        raise InputError(f"{source}: no conformers")
    page = render_page(
        "view.html.j2",
        needed_by="the viewer",
        title=molecules[0]["name"] if len(molecules) == 1 else f"{len(molecules)} of {total} molecules",
        data_html=script_json(molecules),
    )
    return View(page=page)


def _entry(name: str, mols: list[Chem.Mol], energies: list[float] | None) -> dict[str, object]:
    """Conformers superposed on the first one, with energies and torsions, all in the atom order of the first."""
    first = mols[0]
    shown = [m for m in mols if m.GetNumAtoms() == first.GetNumAtoms()][:MAX_CONFORMERS]
    if energies is None:
        own = [e for e in map(_energy, shown) if e is not None]
        energies = own if len(own) == len(shown) else None
    heavy = heavy_atoms(first)
    target = first.GetConformer().GetPositions()
    origin = target[heavy].mean(axis=0)
    quartets = rotatable_torsions(first)
    blocks, angles = [], []
    for mol in shown:
        positions = mol.GetConformer().GetPositions()
        centre = positions[heavy].mean(axis=0)
        rotation = kabsch_rotation(target[heavy] - origin, positions[heavy] - centre)
        copy = Chem.Mol(first)
        copy.GetConformer().SetPositions(np.ascontiguousarray((positions - centre) @ rotation))
        blocks.append(Chem.MolToMolBlock(copy, kekulize=True))
        angles.append([round(float(a), 1) for a in get_torsions(first, positions, quartets)])
    symbols = [a.GetSymbol() for a in first.GetAtoms()]
    return {
        "name": name or "molecule",
        "smiles": Chem.MolToSmiles(Chem.RemoveHs(first)),
        "blocks": blocks,
        "energies": None if energies is None else [round(float(e), 3) for e in energies[: len(shown)]],
        "torsions": angles,
        "torsion_names": ["-".join(f"{symbols[i]}{i + 1}" for i in quartet) for quartet in quartets.tolist()],
        "hidden": len(mols) - len(shown),
    }


def _energy(mol: Chem.Mol) -> float | None:
    """Energy that ``generate`` wrote to the conformer, kcal/mol."""
    conformer = mol.GetConformer()
    return float(conformer.GetDoubleProp("energy_kcal")) if conformer.HasProp("energy_kcal") else None
