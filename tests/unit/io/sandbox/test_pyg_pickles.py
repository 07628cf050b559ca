"""Tests of ``conformergen.io.sandbox.pyg_pickles``."""

import io
import pickle
import zipfile

import numpy as np
import pytest
import torch
from support import EXCHANGED, geodiff_items
from torch_geometric.data import Data

from conformergen.errors import InputError
from conformergen.io.formats import read_ensembles
from conformergen.io.sandbox.child import RestrictedUnpickler
from conformergen.io.sandbox.pyg_pickles import (
    Array,
    OpaqueObject,
    _storage_key,
    array_from_bytes,
    legacy_storage,
    load_archive,
    rebuild_tensor,
)


class _OldData:
    """Stands for ``Data`` of PyG 1: its pickle holds the attributes themselves."""


def _refused(function, *arguments, **options):
    with pytest.raises(pickle.UnpicklingError):
        function(*arguments, **options)


class _Code:
    code = "f4"


def test_pickles_of_old_pyg_are_read(exchanged, tmp_path):
    data = pickle.dumps(geodiff_items(exchanged), protocol=4)
    items = []
    for item in geodiff_items(exchanged):
        old = _OldData()
        old.__dict__.update(item._store._mapping)
        items.append(old)
    text = pickle.dumps(items, protocol=2).replace(
        f"c{_OldData.__module__}\n_OldData\n".encode(), b"ctorch_geometric.data.data\nData\n"
    )
    assert b"_OldData" not in text
    for name, content in (("new", data), ("old", text)):
        (tmp_path / f"{name}.pkl").write_bytes(content)
    new, old = (list(read_ensembles(tmp_path / f"{name}.pkl")) for name in ("new", "old"))
    assert [r.smiles for r in old] == list(EXCHANGED)
    np.testing.assert_array_equal(
        old[1].conformers[2].GetConformer().GetPositions(), new[1].conformers[2].GetConformer().GetPositions()
    )


@pytest.mark.parametrize("kind", ["long", "stride", "class", "archive", "positions"])
def test_forged_tensors_and_objects_are_refused(exchanged, tmp_path, kind):
    good = pickle.dumps(geodiff_items(exchanged), protocol=2)
    path = tmp_path / "bad.pkl"
    if kind == "class":
        path.write_bytes(good.replace(b"torch_geometric.data.data\nData", b"subprocess\nPopen"))
    elif kind == "archive":
        path.write_bytes(b"PK\x03\x04 no archive")
    elif kind == "positions":
        items = geodiff_items(exchanged)
        items[0].pos_gen = items[0].pos_gen[:-1]
        path.write_bytes(pickle.dumps(items))
    else:
        tensor = torch.zeros(4, 3)
        buffer = io.BytesIO()
        items = [Data(smiles="C", pos=tensor)]
        pickle.dump(items, buffer, protocol=2)
        # K\x04K\x03: shape (4, 3); K\x03K\x01: stride
        wrong = {"long": (b"K\x04K\x03\x86", b"K\xffK\x03\x86"), "stride": (b"K\x03K\x01\x86", b"K\xf0K\x01\x86")}[kind]
        assert wrong[0] in buffer.getvalue()
        path.write_bytes(buffer.getvalue().replace(*wrong))
    with pytest.raises(InputError, match="refused"):
        read_ensembles(path)


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
