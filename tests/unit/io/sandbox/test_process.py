"""Tests of ``conformergen.io.sandbox.process``."""

import pickle

import numpy as np
import pytest

from conformergen.errors import DataError
from conformergen.io.sandbox import process as reader_process
from conformergen.io.sandbox.process import SandboxReader, load_split_array, shared_reader


def test_split_file_holds_three_arrays(tmp_path):
    path = tmp_path / "split0.npy"
    np.save(path, np.array([np.arange(3), np.arange(4), np.arange(5)], dtype=object), allow_pickle=True)
    assert [len(part) for part in load_split_array(path)] == [3, 4, 5]
    np.save(path, np.array([np.arange(3), np.arange(4)], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="2 arrays"):
        load_split_array(path)
    path.write_bytes(b"none")
    with pytest.raises(ValueError, match="refused"):
        load_split_array(path)


def test_child_that_hangs_or_is_interrupted_is_replaced(tmp_path, monkeypatch):
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps({"CC": []}))
    with SandboxReader() as child:
        with pytest.raises(DataError, match="died"):
            child.load(path, seconds=1e-6)
        assert child.load(path)[0]["keys"] == ["CC"]
        with monkeypatch.context() as patch:
            patch.setattr(reader_process, "_MAX_ANSWER", 10)
            with pytest.raises(DataError, match="died"):
                child.load(path)

        def interrupted(*_):
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(reader_process, "_exactly", interrupted)
            with pytest.raises(KeyboardInterrupt):
                child.load(path)
        assert child.load(path)[0]["keys"] == ["CC"]
        first = child._process
        monkeypatch.setattr(first, "communicate", lambda timeout: (_ for _ in ()).throw(OSError))
    assert first.poll() is not None
    assert shared_reader() is shared_reader()
