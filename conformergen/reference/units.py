"""Finished ensembles as files: one for each molecule, named by everything that its content depends on."""

import hashlib
import io
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from conformergen.chem import molecule_from_smiles
from conformergen.chem.isomers import choose_isomer
from conformergen.io.aliases import modern_search_stats
from conformergen.io.inputs import InputRecord
from conformergen.records import ConformerSet
from conformergen.reference.search import ReferenceResult, reference_ensemble
from conformergen.reference.settings import ReferenceSettings
from conformergen.runtime.files import committed
from conformergen.runtime.locks import claimed


@dataclass(frozen=True, kw_only=True)
class ReferenceTask:
    """One molecule of a reference run: the work of one worker process."""

    record: InputRecord
    folder: str
    settings: ReferenceSettings
    seed: int

    @property
    def path(self) -> Path:
        """File of the finished ensemble: a digest of everything that its content depends on."""
        settings = asdict(self.settings)
        # The digest was defined when the settings had these names; units of earlier versions are found by it.
        settings["level"] = settings.pop("theory")
        settings["starts_per_rotor"] = settings.pop("starts_per_torsion")
        text = json.dumps([self.record.smiles, self.record.name, settings, self.seed], sort_keys=True)
        return Path(self.folder) / f"{hashlib.sha256(text.encode()).hexdigest()[:24]}.npz"


def run_task(task: ReferenceTask) -> Path | None:
    """Make one ensemble and commit its file, unless it exists; None while another run works on it.

    Raises:
        MoleculeError: As ``choose_isomer`` and ``reference_ensemble``.
    """
    with claimed(task.path) as mine:
        if not task.path.exists():
            if not mine:
                return None
            molecule = choose_isomer(task.record.smiles, task.record.name, seed=task.seed)
            _commit(task, reference_ensemble(molecule, task.settings, seed=task.seed))
    return task.path


def _commit(task: ReferenceTask, result: ReferenceResult) -> None:
    molecule = result.conformers.molecule
    stats = {
        "smiles": molecule.smiles,
        "name": molecule.name,
        "source_smiles": molecule.source_smiles,
        "stereo": molecule.stereo,
        **asdict(result.stats),
        "settings": asdict(task.settings),
        "seed": task.seed,
    }
    with committed(task.path, verify=read_unit) as temporary, temporary.open("wb") as file:
        np.savez(
            file,
            positions=result.conformers.positions,
            energies=result.conformers.energies,  # type: ignore[arg-type]
            weights=result.conformers.weights,  # type: ignore[arg-type]
            forcefield_positions=result.forcefield.positions.astype(np.float32),
            forcefield_energies=result.forcefield.energies,
            search_stats=np.frombuffer(json.dumps(stats).encode(), dtype=np.uint8),
        )


def read_unit(path: Path) -> tuple[ConformerSet, dict[str, Any]]:
    """Ensemble of one finished molecule, and the statistics of its search as plain data."""
    with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    text = arrays["search_stats"] if "search_stats" in arrays else arrays["books"]  # files of earlier versions
    stats = modern_search_stats(json.loads(text.tobytes()))
    molecule = molecule_from_smiles(stats["smiles"], stats["name"])
    conformers = ConformerSet(
        molecule=molecule,
        positions=arrays["positions"],
        energies=arrays["energies"],
        weights=arrays["weights"],
        source_idx=np.arange(len(arrays["positions"]), dtype=np.int32),
        energy_method=stats["settings"]["theory"],
    )
    return conformers, stats
