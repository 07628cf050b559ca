"""Genuine GEOM-Drugs ensembles beside our searches: choosing molecules, matching conformers, keeping finished rows."""

import argparse
import fnmatch
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from conformergen.chem import conformer_positions, heavy_atoms, molecule_from_smiles, symmetry_group, to_mol
from conformergen.errors import MoleculeError
from conformergen.geometry.branch_bound import group_rmsd_matrix
from conformergen.io.formats.interface import RawEnsemble
from conformergen.io.formats.sdf import read
from conformergen.records import Molecule


class Genuine:
    """Conformers (Å) and relative energies (kcal/mol) of an ensemble, in the atom order of our molecule."""

    def __init__(self, raw: RawEnsemble, molecule: Molecule) -> None:
        mapped = conformer_positions(molecule, raw.conformers, check_stereo=True)
        kept = [i for i, m in enumerate(mapped) if not isinstance(m, str)]
        self.n_left_out = len(mapped) - len(kept)
        self.positions = np.array([mapped[i] for i in kept], dtype=np.float64)
        self.energies = np.array([float(raw.conformers[i].GetProp("E_REL_KCAL")) for i in kept])
        mol = to_mol(molecule)
        self.heavy, self.group = heavy_atoms(mol), symmetry_group(mol)
        self.achiral = molecule.graph.achiral

    def distances(self, made: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Heavy-atom RMSD matrix to conformers of ours; the same where a mirror image of an achiral molecule counts."""
        theirs, ours = self.positions[:, self.heavy], made[:, self.heavy].astype(np.float64)
        strict = group_rmsd_matrix(theirs, ours, self.group)
        if not self.achiral:
            return strict, strict
        return strict, np.minimum(strict, group_rmsd_matrix(theirs, -ours, self.group))


def arguments(description: str | None) -> argparse.ArgumentParser:
    """Options of the benchmarks on an excerpt of GEOM-Drugs."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("excerpt", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--select", default="geomdrugs_t*")
    parser.add_argument("--max-heavy", type=int, default=30)
    parser.add_argument("--limit", type=int, default=20)
    return parser


def _selected(options: argparse.Namespace) -> Iterator[RawEnsemble]:
    left = options.limit
    for raw in read(options.excerpt):
        if left == 0:
            return
        if not fnmatch.fnmatchcase(raw.name, options.select) or not raw.smiles:
            continue
        if len(heavy_atoms(to_mol(molecule_from_smiles(raw.smiles)))) <= options.max_heavy:
            left -= 1
            yield raw


def rows(
    options: argparse.Namespace, make: Callable[[RawEnsemble], dict[str, Any]], **failed: float
) -> list[dict[str, Any]]:
    """A row of each molecule, printed and kept as a file in ``out``; ``failed`` is what one has that cannot be made."""
    options.out.mkdir(parents=True, exist_ok=True)
    found = []
    for raw in _selected(options):
        finished = options.out / f"{raw.name}.json"
        if not finished.exists():
            try:
                row = make(raw)
            except MoleculeError as error:
                row = {"name": raw.name, "error": str(error), **failed}
            finished.write_text(json.dumps(row) + "\n")
        found.append(json.loads(finished.read_text()))
        print(json.dumps(found[-1]), flush=True)
    return found
