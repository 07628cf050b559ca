"""GEOM's ``rdkit_folder``: a summary JSON and one pickle per molecule (Axelrod, Gomez-Bombarelli 2022,
doi 10.1038/s41597-022-01288-4). Pickles are read in a disposable child process through an allow-list.
"""  # noqa: D205

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from conformergen.datasets.reader_process import ReaderChild
from conformergen.datasets.readers.interface import RawEnsemble, unpack_mols
from conformergen.errors import DataError, InputError

_SUMMARIES = ("summary_drugs.json", "drugs_summary.json", "summary_qm9.json", "qm9_summary.json")


def find_summaries(source: Path) -> list[Path]:
    """Summary files of a folder, or the one given."""
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
    with ReaderChild() as child:
        for path in summaries:
            yield from _read_summary(path, child)


def _read_summary(path: Path, child: ReaderChild) -> Iterator[RawEnsemble]:
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
            header, arrays = child.load(pickle)
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
