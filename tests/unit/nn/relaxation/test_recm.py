"""Tests of ``conformergen.nn.relaxation.recm``."""

from dataclasses import replace

import pytest

from conformergen.nn.relaxation import (
    RelaxationSettings,
)
from conformergen.nn.relaxation.recm import rate


def test_rate_follows_the_length_of_the_run():
    settings = RelaxationSettings()
    assert rate(settings, 1000) == 1e-2
    assert rate(settings, 100_000) == pytest.approx(5e-4)
    assert rate(replace(settings, lam=0.3), 10) == 0.3
    falling = replace(settings, robbins_monro=True)
    assert rate(falling, 1000, 1000) == pytest.approx(1e-2 / 5**0.75)
