"""Tests of ``conformergen.errors``."""

import pickle

import pytest

from conformergen.errors import REASONS, DataError, InputError, MoleculeError, OtherRunError


def test_errors_survive_their_way_between_processes():
    error = pickle.loads(pickle.dumps(MoleculeError("embed", "no conformer")))  # noqa: S301  written here
    assert (error.reason, str(error)) == ("embed", "no conformer")
    error = pickle.loads(pickle.dumps(InputError("must be positive", setting="n")))  # noqa: S301  written here
    assert error.setting == "n"
    assert str(error) == "n: must be positive"


def test_reasons_are_a_closed_list():
    assert "embed" in REASONS
    with pytest.raises((AssertionError, ValueError)):
        MoleculeError("no such reason", "text")


def test_run_of_other_settings_is_a_data_error():
    assert issubclass(OtherRunError, DataError)
