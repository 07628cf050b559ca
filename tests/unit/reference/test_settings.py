"""Tests of ``conformergen.reference.settings``."""

from conformergen.reference.settings import ReferenceSettings


def test_depths_of_the_search_are_in_order():
    cheap, lean, full, deep = (
        ReferenceSettings.lean(theory="gfn-ff"),
        ReferenceSettings.lean(),
        ReferenceSettings(theory="gfn-ff"),
        ReferenceSettings.thorough(),
    )
    assert cheap.max_starts < lean.max_starts < full.max_starts
    assert (cheap.max_final, lean.max_final) == (50, 30)
    assert deep.max_final > full.max_final
    assert deep.max_crude > full.max_crude
    assert (cheap.theory, lean.theory) == ("gfn-ff", "gfn2-xtb")
