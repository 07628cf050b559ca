"""Tests of ``conformergen.cli.options``."""

from conformergen.cli.options import option_of


def test_settings_are_named_as_options():
    assert option_of("n") == "-n"
    assert option_of("candidates_per_conformer") == "--pool"
    assert option_of("max_atoms") == "--max-atoms"
