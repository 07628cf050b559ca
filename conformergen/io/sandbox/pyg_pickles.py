"""PyG ``Data`` files inside the sandbox: GeoDiff's and ET-Flow's pickles and ``.pt`` archives.

Neither torch nor PyG is imported. An object becomes a mapping of its attributes, and a tensor becomes a NumPy array
over bytes whose number is checked against the shape.
"""

import io
import pickle
import struct
import zipfile
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

import numpy as np

#: Storage classes of torch that are accepted, and NumPy's code of their numbers.
_STORAGES: Final = {
    "FloatStorage": "f4",
    "DoubleStorage": "f8",
    "LongStorage": "i8",
    "IntStorage": "i4",
    "ShortStorage": "i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "b1",
}
#: Magic number of files that torch.save wrote before version 1.6.
_LEGACY_MAGIC: Final = 0x1950A86A20F9469CFC6C


class OpaqueObject:
    """Attributes of an object whose class is not imported."""

    state: Mapping[str, Any] = MappingProxyType(
        {}
    )  # default for an object without a state, because unpickling does not call __init__

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, dict):
            raise pickle.UnpicklingError("an object's state must be a dict")
        self.state = state

    def attributes(self) -> Mapping[str, Any]:
        """Attributes of a ``Data``: those of its store since PyG 2, its own before."""
        store = self.state.get("_store")
        if isinstance(store, OpaqueObject):
            mapping = store.state.get("_mapping")
            return mapping if isinstance(mapping, dict) else {}
        return self.state


class Array:
    """A NumPy array being rebuilt from its state."""

    def __init__(self) -> None:
        self.value = np.zeros(0)

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            raise pickle.UnpicklingError("unknown state of an array")
        _, shape, dtype, fortran, data = state
        self.value = array_from_bytes(data, getattr(dtype, "code", ""), shape, fortran=bool(fortran))


def array_from_bytes(data: object, code: str, shape: object, *, fortran: bool = False) -> np.ndarray:
    """Array over bytes, whose number must be that of the shape.

    Raises:
        UnpicklingError: When they are not.
    """
    if not isinstance(data, bytes | bytearray) or not isinstance(shape, tuple):
        raise pickle.UnpicklingError("an array needs bytes and a shape")
    flat = np.frombuffer(bytes(data), dtype=np.dtype(code))
    if not all(isinstance(n, int) and n >= 0 for n in shape) or flat.size != int(np.prod(shape, dtype=object)):
        raise pickle.UnpicklingError("bytes of an array do not fit its shape")
    return flat.reshape(shape, order="F" if fortran else "C")


def rebuild_array(*_: object) -> Array:
    """``numpy._reconstruct``: an array whose state follows."""
    return Array()


def array_from_buffer(data: object, dtype: object, shape: object, order: object = "C") -> np.ndarray:
    """``numpy._frombuffer``, pickle protocol 5."""
    return array_from_bytes(data, getattr(dtype, "code", ""), shape, fortran=order == "F")


def rebuild_tensor(storage: object, offset: object, shape: object, stride: object, *_: object) -> np.ndarray:
    """``torch._utils._rebuild_tensor_v2``: a tensor over a part of a storage."""
    if not isinstance(storage, np.ndarray) or not isinstance(shape, tuple) or not isinstance(stride, tuple):
        raise pickle.UnpicklingError("a tensor needs a storage and a shape")
    if not isinstance(offset, int) or not all(isinstance(n, int) and n >= 0 for n in (*shape, *stride, offset)):
        raise pickle.UnpicklingError("shape of a tensor")
    if len(shape) != len(stride):
        raise pickle.UnpicklingError("stride of a tensor")
    size = int(np.prod(shape, dtype=object))
    last = offset + sum((n - 1) * s for n, s in zip(shape, stride, strict=True)) if size else offset
    if size > storage.size or last >= max(storage.size, 1):
        raise pickle.UnpicklingError("a tensor reaches beyond its storage")
    if size == 0:
        return np.zeros(shape, dtype=storage.dtype)
    steps = tuple(s * storage.itemsize for s in stride)
    return np.lib.stride_tricks.as_strided(storage[offset:], shape, steps, writeable=False).copy()


def is_object(module: str, name: str) -> bool:
    """Whether a name belongs to a PyG class that is read as its attributes."""
    return module.startswith("torch_geometric.data.") and name in (
        "Data",
        "GlobalStorage",
        "DataTensorAttr",
        "DataEdgeAttr",
        "TensorAttr",
        "EdgeAttr",
    )


#: An unpickler class of the reader process, made with the function that finds storages.
Unpickle = Callable[[bytes, Callable[[Any], Any] | None], Any]


def storage_code(module: str, name: str) -> str | None:
    """NumPy code of a torch storage class, or None."""
    return _STORAGES.get(name) if module in ("torch", "torch.storage") else None


def legacy_storage(data: object, unpickle: Unpickle) -> np.ndarray:
    """``torch.storage._load_from_bytes``: a storage as ``torch.save`` of 2019 wrote it.

    Raises:
        UnpicklingError: For anything else.
    """
    if not isinstance(data, bytes):
        raise pickle.UnpicklingError("a storage needs bytes")
    stream = io.BytesIO(data)
    found: list[tuple[str, str, int]] = []

    def persistent(key: Any) -> np.ndarray:
        found.append(_storage_key(key))
        return np.zeros(0)

    parts = []
    for _ in range(5):  # magic number, protocol, system, object, keys
        begin = stream.tell()
        end = begin + _pickle_length(data[begin:])
        parts.append(unpickle(data[begin:end], persistent))
        stream.seek(end)
    if parts[0] != _LEGACY_MAGIC or len(found) != 1:
        raise pickle.UnpicklingError("unknown storage")
    code, _, _ = found[0]
    (count,) = struct.unpack("<q", stream.read(8))
    return array_from_bytes(stream.read(), code, (count,))


def _pickle_length(data: bytes) -> int:
    import pickletools

    return max((position or 0) + 1 for _, _, position in pickletools.genops(data))  # ends with STOP, or raises


def _storage_key(key: Any) -> tuple[str, str, int]:
    """Code, file key and element count of a persistent id ``("storage", class, key, location, count, ...)``."""
    if not isinstance(key, tuple) or len(key) < 5 or key[0] != "storage":
        raise pickle.UnpicklingError("unknown persistent id")
    code, name, count = getattr(key[1], "code", ""), key[2], key[4]
    if not isinstance(name, str) or not name.isdigit() or not isinstance(count, int) or not code:
        raise pickle.UnpicklingError("unknown persistent id")
    return code, name, count


def load_archive(data: bytes, unpickle: Unpickle, *, max_bytes: int) -> Any:
    """Object of a ``.pt`` archive, as ``torch.save`` writes it since version 1.6.

    Raises:
        UnpicklingError: For an archive that is none, or holds more than ``max_bytes``.
    """
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        if sum(info.file_size for info in archive.infolist()) > max_bytes:
            raise pickle.UnpicklingError("archive too large")
        roots = [n[: -len("data.pkl")] for n in archive.namelist() if n.endswith("data.pkl")]
        if len(roots) != 1:
            raise pickle.UnpicklingError("no archive of torch.save")

        def persistent(key: Any) -> np.ndarray:
            code, name, count = _storage_key(key)
            return array_from_bytes(archive.read(f"{roots[0]}data/{name}"), code, (count,))

        return unpickle(archive.read(f"{roots[0]}data.pkl"), persistent)
