"""GEOM's ``rdkit_folder`` as an output: a summary JSON and one pickle for each molecule.

Layout of Axelrod, Gomez-Bombarelli 2022 (doi 10.1038/s41597-022-01288-4), so that published loaders read it.
"""

import json
import pickle
import re
from pathlib import Path
from typing import Any, Final

import numpy as np
from rdkit import Chem

from conformergen.chem import mol_with_conformers
from conformergen.records import ConformerSet
from conformergen.storage import commit_bytes
from conformergen.units import GAS_CONSTANT, ROOM_TEMPERATURE
from conformergen.workflows.outputs import Provenance, Writer

SUMMARY: Final = "summary_drugs.json"
_PICKLES: Final = "drugs"


class GeomFolderWriter(Writer):
    """Pickles as they come, the summary last: a folder without one is unfinished."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / _PICKLES).mkdir(parents=True, exist_ok=True)
        self.summary: dict[str, dict[str, Any]] = {}

    def write(self, conformers: ConformerSet, provenance: Provenance) -> None:
        """Write one molecule; degeneracies are those of the weights."""
        del provenance
        molecule = conformers.molecule
        energies = np.zeros(len(conformers)) if conformers.energies is None else conformers.energies
        factors = np.exp(-energies / (GAS_CONSTANT * ROOM_TEMPERATURE))
        weights = factors / factors.sum() if conformers.weights is None else conformers.weights
        degeneracies = np.rint(weights / factors / (weights / factors).min()).astype(int)
        records = [
            {
                "geom_id": index,
                "set": 1,
                "degeneracy": int(degeneracies[index]),
                "relativeenergy": float(energies[index]),
                "boltzmannweight": float(weights[index]),
                "conformerweights": [float(weights[index])],
                "rd_mol": mol_with_conformers(molecule, positions[None]),
            }
            for index, positions in enumerate(conformers.positions)
        ]
        facts = {
            "charge": Chem.GetFormalCharge(records[0]["rd_mol"]),
            "uniqueconfs": len(conformers),
            "totalconfs": int(degeneracies.sum()),
            "ensembleenergy": float(weights @ energies),
            "poplowestpct": 100.0 * float(weights[0]),
            "temperature": ROOM_TEMPERATURE,
        }
        stem = re.sub(r"[^A-Za-z0-9_.-]", "_", molecule.name)[:80] or "molecule"
        path = Path(_PICKLES) / f"{len(self.summary):05d}_{stem}.pickle"
        content = pickle.dumps({**facts, "smiles": molecule.smiles, "conformers": records})
        commit_bytes(self.folder / path, content)
        self.summary[molecule.smiles] = {**facts, "pickle_path": str(path)}

    def close(self) -> None:
        """Write the summary."""
        commit_bytes(self.folder / SUMMARY, (json.dumps(self.summary, indent=1) + "\n").encode())

    def discard(self, *, keep: bool = False) -> None:
        """Leave the folder without a summary."""
