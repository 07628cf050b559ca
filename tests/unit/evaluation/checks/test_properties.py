"""Tests of ``conformergen.evaluation.checks.properties``."""

import shutil

import pytest
from support import check, scoring_task


@pytest.mark.parametrize("engine", ["xtb", "tblite"])
def test_strain_and_properties(engine):
    if engine == "xtb" and shutil.which("xtb") is None:
        pytest.skip("xtb is not installed")
    task = scoring_task("CCO", n=2)
    strain = check("strain", task, engine=engine)["columns"]
    assert 0.5 < strain["strain"]["median"] < 15.0
    assert 0.001 < strain["bond_change"]["median"] < 0.1
    properties = check("properties", task, engine=engine)["columns"]
    # References are ETKDG geometries here, samples are relaxed: the difference is the strain.
    assert properties["lowest_energy_error"]["median"] == pytest.approx(strain["strain"]["median"], abs=3.0)
    assert properties["dipole_error"]["median"] < 1.0
    assert properties["gap_error"]["median"] < 40.0
