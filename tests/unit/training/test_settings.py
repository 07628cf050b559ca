"""Tests of ``conformergen.training.settings``."""

import pytest

from conformergen.errors import InputError
from conformergen.training.settings import TrainingSettings


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"learning_rate": -1.0}, {"accumulate": 0}, {"ema": 1.5}])
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(InputError):
        TrainingSettings(**wrong)
