"""Tests of ``conformergen.reference.units``."""

import numpy as np
import pytest
from support import input_records

from conformergen.errors import MoleculeError
from conformergen.reference.settings import ReferenceSettings
from conformergen.reference.units import ReferenceTask, read_unit, run_task


def _task(smiles, folder):
    settings = ReferenceSettings.lean(engine="tblite", min_starts=3, max_starts=3, md_runs=0, max_crude=3, max_final=2)
    return ReferenceTask(record=input_records(smiles)[0], folder=str(folder), settings=settings, seed=0)


def test_unit_is_made_once_and_read_back(tmp_path):
    task = _task("CCO", tmp_path)
    path = run_task(task)
    made = path.stat().st_mtime_ns
    assert run_task(task) == path == task.path
    assert path.stat().st_mtime_ns == made
    conformers, stats = read_unit(path)
    assert conformers.molecule.smiles == "CCO"
    assert stats["counts"]["final"] == len(conformers)
    with pytest.raises(MoleculeError):
        run_task(_task("C(", tmp_path))


def test_units_of_earlier_versions_are_read(tmp_path):
    """Version 0.1 called the statistics ``books`` and the theory ``level``."""
    path = run_task(_task("CCO", tmp_path))
    with np.load(path) as file:
        arrays = dict(file)
    text = arrays.pop("search_stats").tobytes().replace(b'"theory"', b'"level"')
    arrays["books"] = np.frombuffer(text, dtype=np.uint8)
    np.savez(tmp_path / "old.npz", **arrays)
    conformers, stats = read_unit(tmp_path / "old.npz")
    assert len(conformers) > 0
    assert stats["settings"]["theory"] == "gfn2-xtb"
