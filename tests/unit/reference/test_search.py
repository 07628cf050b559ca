"""Tests of ``conformergen.reference.search``."""

import numpy as np
import pytest

from conformergen.chem import molecule_from_smiles
from conformergen.reference.search import reference_ensemble
from conformergen.reference.settings import ReferenceSettings


def _small(**changes):
    return ReferenceSettings.lean(
        **{"min_starts": 8, "max_starts": 8, "md_runs": 1, "md_ps": 1.0, "max_crude": 6, "max_final": 4, **changes}
    )


def test_tblite_alone_makes_an_ensemble():
    result = reference_ensemble(molecule_from_smiles("CCCO"), _small(engine="tblite"), seed=0)
    energies = result.conformers.energies
    assert len(energies) >= 2
    assert np.all(np.diff(energies) >= 0)
    assert energies[0] == 0.0
    assert "mmff94s" in result.stats.counts
    assert result.conformers.weights.sum() == pytest.approx(1.0)
