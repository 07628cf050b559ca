"""Tests of ``conformergen.checkpoint.folder``."""

import pytest

from conformergen.checkpoint.folder import resolve
from conformergen.checkpoint.model import load_model
from conformergen.errors import DataError, InputError


def test_checkpoints_are_found_and_verified(tiny_run, tmp_path):
    import shutil

    assert resolve(str(tiny_run)).name == "best"
    with pytest.raises(InputError):
        resolve("no-such-model")
    shutil.copytree(tiny_run / "best", tmp_path / "bad")
    weights = bytearray((tmp_path / "bad" / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (tmp_path / "bad" / "model.safetensors").write_bytes(weights)
    with pytest.raises(DataError):
        load_model(tmp_path / "bad")
