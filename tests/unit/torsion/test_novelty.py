"""Tests of ``conformergen.torsion.novelty``."""

import numpy as np

from conformergen.chem import (
    molecule_from_smiles,
    rotatable_torsions,
    to_mol,
    torsion_periods,
)
from conformergen.torsion.novelty import select_diverse


def test_starts_differ_from_each_other_where_draws_do():
    mol = to_mol(molecule_from_smiles("OCc1ccccc1"))
    quartets = rotatable_torsions(mol)
    period = torsion_periods(mol, quartets)
    assert sorted(period) == [180.0, 360.0]
    ring = int(period.argmin())
    draws = np.zeros((5, 2))
    draws[:, 1 - ring] = [60.0, 60.0, -60.0, 170.0, 100.0]
    draws[:, ring] = [10.0, 185.0, -5.0, 0.0, 0.0]
    assert select_diverse(draws, period, 5, mirrored=False).tolist() == [0, 2, 3, 4]
    assert select_diverse(draws, period, 5, mirrored=True).tolist() == [0, 3, 4]
    assert select_diverse(draws, period, 2, mirrored=True).tolist() == [0, 3]
    amine = to_mol(molecule_from_smiles("CN(C)CC(C)(C)C"))
    assert torsion_periods(amine, np.array([[0, 1, 3, 4], [1, 3, 4, 5]])).tolist() == [360.0, 120.0]
