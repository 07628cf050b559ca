"""Tests of ``conformergen.refinement.engines``."""

import shutil

import numpy as np
import pytest

from conformergen.chem import embed, molecule_from_smiles
from conformergen.errors import InputError
from conformergen.refinement import xtb
from conformergen.refinement.engines import ENGINES, TbliteLibrary, XtbProgram, choose_engine

needs_xtb = pytest.mark.skipif(not xtb.available(), reason="the xtb program is not installed")


def test_engines_agree_on_properties():
    if shutil.which("xtb") is None:
        pytest.skip("xtb is not installed")
    from conformergen.refinement.engines import ENGINES

    molecule = molecule_from_smiles("NCC(=O)O")
    positions = embed(molecule, 1, seed=0)[0].astype(np.float64)
    one, other = (ENGINES[name](molecule).properties(positions) for name in ("xtb", "tblite"))
    assert one.gap == pytest.approx(other.gap, abs=0.1)
    assert one.dipole == pytest.approx(other.dipole, abs=0.01)
    assert one.energy == pytest.approx(other.energy, abs=0.01)


@needs_xtb
def test_engines_agree_on_energies_and_minima():
    molecule = molecule_from_smiles("C[NH2+]CCO")
    from conformergen.chem import embed

    start = embed(molecule, 1, seed=1)[0].astype(np.float64)
    program, library = XtbProgram(molecule), TbliteLibrary(molecule)
    assert program.charge == 1
    assert library.energy(start) == pytest.approx(program.energy(start), abs=0.01)
    (p, e), (q, f) = program.optimise(start), library.optimise(start)
    assert e == pytest.approx(f, abs=0.1)
    assert program.energy(start) > e
    assert library.snapshots(start, xtb.Metadynamics(k_push=0.001, alpha=1.0)).shape == (0, *start.shape)
    assert p.shape == q.shape == start.shape


def test_missing_engines_are_named(monkeypatch):
    monkeypatch.setattr(xtb, "available", lambda: False)
    assert choose_engine() == "tblite"
    with pytest.raises(InputError, match="apt-get install xtb"):
        choose_engine("xtb")
    with pytest.raises(InputError, match="not one of"):
        choose_engine("orca")
    assert set(ENGINES) == {"xtb", "tblite"}
