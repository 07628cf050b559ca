"""Tests of ``conformergen.datasets.loader``."""

from conformergen.datasets.loader import TrainingSet


def test_epoch_holds_every_conformer_once_and_depends_on_seed_and_epoch(ensembles):
    data = TrainingSet(ensembles, pair_budget=2000, confs_per_epoch=10)
    plan = data.plan(0, 3)
    assert sorted(e for b in plan for e in b) == [(i, c) for i in range(3) for c in range(4)]
    assert plan == data.plan(0, 3)
    assert plan != data.plan(0, 4)
    assert next(data.stream(0, 3, len(plan) - 1))[:2] == (3, len(plan))
    assert next(data.stream(0, 3, len(plan)))[:2] == (4, 1)
