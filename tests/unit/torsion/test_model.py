"""Tests of ``conformergen.torsion.model``."""

import numpy as np
from support import torsion_features_of

from conformergen.checkpoint.folder import find_torsion_model
from conformergen.chem.molecule import ELEMENT_SYMBOLS
from conformergen.torsion.model import draw_torsions

MODEL = find_torsion_model("default")


def test_model_knows_amides_and_chains():
    graph, quartets, described, _ = torsion_features_of("CCNC(=O)CCC")
    degrees = draw_torsions(MODEL.load(), described, 400, np.random.default_rng(0), uniform=0.01)
    names = ["".join(ELEMENT_SYMBOLS[z] for z in row) for row in graph.atomic_numbers[quartets]]
    drawn = {min(name, name[::-1]): np.abs(degrees[:, i]) for i, name in enumerate(names)}
    assert (drawn["CNCO"] < 30).mean() > 0.7  # trans: carbon beside oxygen
    chain = drawn["CCCC"]
    assert ((chain > 40) & (chain < 90) | (chain > 150)).mean() > 0.7  # gauche and anti


def test_draws_are_repeatable_and_uniform_where_asked():
    _, quartets, described, _ = torsion_features_of("OCCNC", n=3)
    model = MODEL.load()
    first, again, other = (
        draw_torsions(model, described, 50, np.random.default_rng(seed), uniform=0.1) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert first.shape == (50, len(quartets))
    assert np.abs(first).max() <= 180.0
    flat = draw_torsions(model, described, 3000, np.random.default_rng(0), uniform=1.0)
    counts = np.histogram(flat, bins=6, range=(-180.0, 180.0))[0] / flat.size
    np.testing.assert_allclose(counts, 1 / 6, atol=0.02)


def test_torsions_are_drawn_given_each_other():
    """The two bonds beside an ether's oxygen are never both gauche of opposite sign."""
    _, quartets, described, _ = torsion_features_of("CCOCC")
    degrees = draw_torsions(MODEL.load(), described, 2000, np.random.default_rng(0), uniform=0.01)
    a, b = degrees.T
    assert len(quartets) == 2
    gauche = (np.abs(a) < 100) & (np.abs(b) < 100)
    opposite = (a[gauche] * b[gauche] < 0).mean()
    assert opposite < 0.35  # each by itself: a half
