"""Tests of ``conformergen.cli.app``."""

import importlib


def test_signal_inside_a_call_from_c_ends_the_program_as_any_other():
    cli = importlib.import_module("conformergen.cli.app")
    error = SystemError("returned a result with an exception set")
    error.__cause__ = cli.Terminated()
    assert cli._ending(error) == (143, "terminated")
    assert cli._ending(SystemError("a bug of an extension")) is None
