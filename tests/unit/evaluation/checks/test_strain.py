"""Tests of ``conformergen.evaluation.checks.strain``."""

import numpy as np
import pytest

from conformergen.chem import embed, molecule_from_smiles
from conformergen.evaluation.checks.strain import changes, internal_coordinates


def test_internal_coordinates_and_their_changes():
    graph = molecule_from_smiles("CC").graph
    angles, torsions = internal_coordinates(graph)
    assert len(angles) == 12
    assert len(torsions) == 9
    before = embed(molecule_from_smiles("CC"), 1, seed=0)[0].astype(np.float64)
    assert changes(graph, before, before @ np.diag([1.0, 1.0, 1.0])) == (0.0, 0.0, 0.0)
    bond, angle, torsion = changes(graph, before, 1.1 * before)
    assert bond == pytest.approx(0.1 * np.mean([1.1] * 6 + [1.52]), abs=0.02)
    assert angle == pytest.approx(0.0, abs=1e-5)
    assert torsion == pytest.approx(0.0, abs=1e-5)
