"""The disposable reader process and what it refuses, piece by piece."""

import io
import pickle
import zipfile

import numpy as np
import pytest

from conformergen.errors import DataError
from conformergen.io.sandbox import process as reader_process
from conformergen.io.sandbox.child import RestrictedUnpickler, load_mols, scan
from conformergen.io.sandbox.process import SandboxReader, load_split_array, shared_reader
from conformergen.io.sandbox.pyg_pickles import (
    Array,
    OpaqueObject,
    _storage_key,
    array_from_bytes,
    legacy_storage,
    load_archive,
    rebuild_tensor,
)


def _refused(function, *arguments, **options):
    with pytest.raises(pickle.UnpicklingError):
        function(*arguments, **options)


class _Code:
    code = "f4"


def test_arrays_are_as_long_as_they_say():
    assert array_from_bytes(b"\0" * 8, "f4", (2,)).tolist() == [0.0, 0.0]
    assert array_from_bytes(np.arange(6, dtype="f4").tobytes(), "f4", (2, 3), fortran=True)[1, 0] == 1.0
    for data, shape in (("text", (1,)), (b"\0" * 8, [2]), (b"\0" * 8, (3,)), (b"\0" * 8, (-2,)), (b"\0" * 8, (2.0,))):
        _refused(array_from_bytes, data, "f4", shape)
    array = Array()
    array.__setstate__((1, (2,), _Code(), False, b"\0" * 8))
    assert array.value.shape == (2,)
    for state in (None, (1, 2), (1, (3,), _Code(), False, b"\0" * 8)):
        _refused(Array().__setstate__, state)


def test_tensors_stay_inside_their_storage():
    storage = np.arange(6, dtype="f4")
    assert rebuild_tensor(storage, 1, (2, 2), (2, 1)).tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert rebuild_tensor(storage, 0, (0, 3), (3, 1)).shape == (0, 3)
    for arguments in (
        (None, 0, (1,), (1,)),
        (storage, 0, [1], (1,)),
        (storage, "0", (1,), (1,)),
        (storage, 0, (-1,), (1,)),
        (storage, 0, (1, 1), (1,)),
        (storage, 0, (7,), (1,)),
        (storage, 5, (2,), (1,)),
        (storage, 0, (2,), (6,)),
    ):
        _refused(rebuild_tensor, *arguments)


def test_objects_are_bags_of_attributes():
    bag, store = OpaqueObject(), OpaqueObject()
    store.__setstate__({"_mapping": {"smiles": "C"}})
    bag.__setstate__({"_store": store})
    assert bag.attributes() == {"smiles": "C"}
    store.__setstate__({"_mapping": [1]})
    assert bag.attributes() == {}
    _refused(bag.__setstate__, [1])


def test_storages_are_named_as_torch_names_them():
    assert _storage_key(("storage", _Code(), "12", "cpu", 3)) == ("f4", "12", 3)
    for key in (
        None,
        ("storage", _Code(), "0", "cpu"),
        ("other", _Code(), "0", "cpu", 3),
        ("storage", object(), "0", "cpu", 3),
        ("storage", _Code(), "../x", "cpu", 3),
        ("storage", _Code(), "0", "cpu", "3"),
    ):
        _refused(_storage_key, key)
    unpickle = lambda data, storage: RestrictedUnpickler(data, storage).load()  # noqa: E731
    _refused(legacy_storage, "text", unpickle)
    with pytest.raises(ValueError, match="STOP"):
        legacy_storage(b"\x80\x02K\x01", unpickle)
    _refused(legacy_storage, pickle.dumps(1, 2) * 5, unpickle)  # five pickles, but no storage


def test_archives_are_bounded():
    def archive(**files):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
            for name, content in files.items():
                file.writestr(name.replace("__", "/"), content)
        return buffer.getvalue()

    _refused(load_archive, archive(a="x" * 10_000), lambda *_: None, max_bytes=1_000)
    _refused(load_archive, archive(a="x"), lambda *_: None, max_bytes=1_000)
    two = archive(**{"a__data.pkl": b"N.", "b__data.pkl": b"N."})
    _refused(load_archive, two, lambda *_: None, max_bytes=1_000)
    assert load_archive(archive(**{"a__data.pkl": b"N."}), lambda data, _: data, max_bytes=1_000) == b"N."


def test_scan_has_limits(monkeypatch):
    from conformergen.io.sandbox import child as reader_child

    monkeypatch.setattr(reader_child, "MAX_OPERATIONS", 10)
    _refused(scan, pickle.dumps(list(range(100))))
    monkeypatch.setattr(reader_child, "MAX_BYTES", 10)
    _refused(scan, pickle.dumps("x" * 100))


@pytest.mark.parametrize("content", [1, [1], {1: []}, {"CC": 1}, {"CC": [1]}, {"conformers": [], "x": {1, 2}}])
def test_content_that_is_no_molecules_is_refused(content):
    _refused(load_mols, pickle.dumps(content))


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
