"""Tests of ``conformergen.datasets.ranked``."""

from conformergen.training.ranking_data import with_baseline


def test_baseline_has_an_energy_for_each_conformer(ranked_sets):
    for ranked in ranked_sets:
        assert len(ranked.baseline) == len(ranked.conformers)
        assert (with_baseline(ranked.conformers).baseline == ranked.baseline).all()
