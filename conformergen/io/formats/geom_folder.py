"""GEOM's ``rdkit_folder``: a summary JSON and one pickle for each molecule.

Layout of Axelrod, Gomez-Bombarelli 2022 (doi 10.1038/s41597-022-01288-4). Pickles are read in a disposable process
through an allow-list; what is written can be read by published loaders.
"""

import json
import math
import pickle
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
from rdkit import Chem

from conformergen.chem import mol_with_conformers
from conformergen.errors import DataError, InputError
from conformergen.io.formats.interface import Provenance, RawEnsemble, Writer
from conformergen.io.sandbox.process import SandboxReader, unpack_mols
from conformergen.records import ConformerSet
from conformergen.runtime.files import commit_bytes
from conformergen.units import GAS_CONSTANT, ROOM_TEMPERATURE

#: Summary that is written.
SUMMARY: Final = "summary_drugs.json"
#: Folder of the pickles that are written.
_PICKLES: Final = "drugs"
#: Names of summaries that are read.
_SUMMARIES: Final = ("summary_drugs.json", "drugs_summary.json", "summary_qm9.json", "qm9_summary.json")


def find_summaries(source: Path) -> list[Path]:
    """Summary files of a folder, or the given file."""
    if source.is_file():
        return [source]
    return [source / name for name in _SUMMARIES if (source / name).is_file()]


def read(source: Path) -> Iterator[RawEnsemble]:
    """Yield the molecules of each summary in the order of their pickle names (GeoMol's split order).

    Raises:
        InputError: Without a summary file.
    """
    summaries = find_summaries(source)
    if not summaries:
        raise InputError(f"{source}: no summary_drugs.json or summary_qm9.json")
    with SandboxReader() as sandbox:
        for path in summaries:
            yield from _read_summary(path, sandbox)


def _read_summary(path: Path, sandbox: SandboxReader) -> Iterator[RawEnsemble]:
    try:
        summary: dict[str, dict[str, Any]] = json.loads(path.read_text())
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({error})") from error
    root = path.parent
    listed = {smiles: entry["pickle_path"] for smiles, entry in summary.items() if entry.get("pickle_path")}
    # The split counts the pickles in a sorted directory listing, full names with suffix.
    positions = {smiles: i for i, smiles in enumerate(sorted(listed, key=lambda s: Path(listed[s]).name))}
    for smiles, position in positions.items():
        name = Path(listed[smiles]).stem
        pickle = (root / listed[smiles]).resolve()
        if root.resolve() not in pickle.parents:
            yield RawEnsemble(
                smiles=smiles, name=name, conformers=[], position=position, error="path leaves the folder"
            )
            continue
        try:
            header, arrays = sandbox.load(pickle)
            yield _ensemble(smiles, name, position, header, arrays)
        except DataError as error:
            yield RawEnsemble(smiles=smiles, name=name, conformers=[], position=position, error=str(error))
    for smiles in sorted(set(summary) - set(listed)):
        yield RawEnsemble(smiles=smiles, name=smiles, conformers=[], position=-1, error="no pickle in the summary")


def _ensemble(
    smiles: str, name: str, position: int, header: dict[str, Any], arrays: dict[str, np.ndarray]
) -> RawEnsemble:
    conformers = unpack_mols(arrays)
    records = header["conformers"]
    kept = [i for i, mol in enumerate(conformers) if mol is not None]
    energies = [float(records[i].get("relativeenergy", math.nan)) for i in kept]
    weights = [float(records[i].get("boltzmannweight", math.nan)) for i in kept]
    usable = all(math.isfinite(w) and w >= 0 for w in weights) and sum(weights) > 0
    return RawEnsemble(
        smiles=smiles,
        name=name,
        conformers=[mol for mol in conformers if mol is not None],
        energies=energies if all(map(math.isfinite, energies)) else None,
        weights=weights if usable else None,
        energy_method="gfn2-xtb",
        position=position,
    )


class GeomFolderWriter(Writer):
    """Writes pickles as molecules arrive and the summary last: a folder without a summary is unfinished."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / _PICKLES).mkdir(parents=True, exist_ok=True)
        self.summary: dict[str, dict[str, Any]] = {}

    def write(self, conformers: ConformerSet, provenance: Provenance) -> None:
        """Write one molecule; degeneracies follow from the weights."""
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
