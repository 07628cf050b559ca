"""Tests of ``conformergen.generation.finish``."""

import numpy as np
import pytest
from support import input_records, run_pipeline

from conformergen.chem import heavy_atoms, mol_with_conformers, symmetry_group
from conformergen.errors import InputError
from conformergen.generation.settings import GenerateSettings
from conformergen.geometry.branch_bound import group_rmsd_matrix


@pytest.mark.parametrize("refine", ["mmff94s", "uff"])
def test_refined_conformers_are_ranked_windowed_and_pruned(refine):
    every, _ = run_pipeline(GenerateSettings(n=20, method="etkdg", refine=refine), input_records("CCCCCO"))
    energies = every[0].energies
    assert np.all(np.diff(energies) >= 0)
    assert energies[0] == 0.0
    assert every[0].weights.sum() == pytest.approx(1.0)
    few, summary = run_pipeline(
        GenerateSettings(n=20, method="etkdg", refine=refine, ewin=1.0, rms=0.3), input_records("CCCCCO")
    )
    assert few[0].energies.max() <= 1.0
    assert 1 <= len(few[0]) < len(every[0])
    assert summary.short == 1
    mol = mol_with_conformers(few[0].molecule, few[0].positions)
    positions = few[0].positions[:, heavy_atoms(mol)]
    rmsd = group_rmsd_matrix(positions, positions, symmetry_group(mol)) + 9 * np.eye(len(positions))
    assert rmsd.min() >= 0.3
    for bad in ({"ewin": 0.0}, {"rms": -1.0}, {"n": -1}):
        with pytest.raises(InputError):
            GenerateSettings(**bad)
