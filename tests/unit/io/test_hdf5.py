"""Tests of ``conformergen.io.hdf5``."""

import numpy as np
import pytest

from conformergen.errors import DataError
from conformergen.io.hdf5 import pack_arrays, parse_arrays


def test_arrays_survive_and_the_bytes_are_repeatable():
    arrays = {"x": np.arange(12, dtype="f4").reshape(4, 3), "n": np.array([1, 2], dtype="u1")}
    image = pack_arrays(arrays, {"content": "test"})
    assert image == pack_arrays(arrays, {"content": "test"})
    back = parse_arrays(image)
    assert back.keys() == arrays.keys()
    for name, values in arrays.items():
        np.testing.assert_array_equal(back[name], values)
        assert back[name].dtype == values.dtype


def test_changed_byte_is_noticed():
    image = bytearray(pack_arrays({"x": np.arange(3)}, {}))
    image[-1] ^= 1
    with pytest.raises((DataError, ValueError)):
        parse_arrays(bytes(image))
