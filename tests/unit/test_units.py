"""Tests of ``conformergen.units``."""

import pytest

from conformergen import units


def test_units_agree_with_scipy():
    from scipy import constants

    kcal = constants.kilo * constants.calorie / constants.N_A
    hartree = constants.physical_constants["Hartree energy"][0]
    assert hartree / kcal == pytest.approx(units.HARTREE_TO_KCAL, rel=1e-6)
    assert constants.e / kcal == pytest.approx(units.EV_TO_KCAL, rel=1e-6)
    assert constants.R / constants.calorie / 1000 == pytest.approx(units.GAS_CONSTANT, rel=1e-6)
    bohr = constants.physical_constants["Bohr radius"][0]
    assert bohr / constants.angstrom == pytest.approx(units.BOHR_TO_ANGSTROM, rel=1e-6)
