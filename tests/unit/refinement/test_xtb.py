"""Tests of ``conformergen.refinement.xtb``."""

import numpy as np
import pytest

from conformergen.chem import embed, molecule_from_smiles
from conformergen.refinement import xtb


def test_frames_are_read_from_text():
    text = "2\n energy: -1.5 gnorm\nH 0 0 0\nH 0 0 0.7\n2\n energy: -1.6\nH 0 0 0\nH 0 0 0.8\n"
    frames, titles = xtb.read_xyz_frames(text, 2)
    assert frames.shape == (2, 2, 3)
    assert frames[1, 1, 2] == 0.8
    assert "-1.6" in titles[1]


@pytest.mark.skipif(not xtb.available(), reason="the xtb program is not installed")
def test_optimisation_lowers_the_energy():
    molecule = molecule_from_smiles("CCO")
    numbers, start = molecule.graph.atomic_numbers, embed(molecule, 1, seed=0)[0].astype(np.float64)
    before = xtb.single_point(numbers, start, charge=0)
    _, after = xtb.optimise(numbers, start, charge=0, method="gfn2-xtb")
    assert after < before
