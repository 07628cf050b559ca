"""Tests of ``conformergen.generation.settings``."""

from support import input_records, run_pipeline

from conformergen.generation.settings import GenerateSettings


def test_automatic_count_follows_flexibility():
    settings = GenerateSettings(n=0)
    assert [settings.count(None, r) for r in (0, 7, 8, 12, 13)] == [50, 50, 200, 200, 300]
    assert GenerateSettings(n=0, per_reference=2).count(4, 3) == 8
    made, _ = run_pipeline(GenerateSettings(n=0, method="etkdg"), input_records("CCO"))
    assert len(made[0]) == 50
