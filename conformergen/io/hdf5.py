"""Arrays in HDF5, preceded by a digest of the file; the content of a shard, as bytes in memory.

A file holds numbers in named arrays only. Everything else that HDF5 can hold is refused before it is read. Files that
may be hostile are parsed in a disposable process (``io.sandbox``), because HDF5 can crash or loop on crafted metadata.
"""

import hashlib
import io
from typing import Final

import h5py
import numpy as np

from conformergen.errors import DataError

#: Version of the layout of shards.
SCHEMA: Final = 1
#: Size of a chunk, bytes.
_CHUNK_BYTES: Final = 262_144
#: Beginning of the user block that precedes the HDF5 part. The digest in it is checked before HDF5 parses a byte,
#: because HDF5 can loop for ever on damaged metadata.
_SIGNED: Final = b"conformergen shard sha256 "
#: Length of the user block, bytes.
_USER_BLOCK: Final = 512
#: Filters that are part of HDF5 itself.
_FILTERS: Final = frozenset({h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32})
#: Largest ratio of unpacked to packed size. (gzip of constant arrays reaches 1000.)
_MAX_EXPANSION: Final = 50
#: Unpacked bytes that are always allowed.
_ALWAYS_ALLOWED: Final = 2**24


def pack_arrays(arrays: dict[str, np.ndarray], attributes: dict[str, str]) -> bytes:
    """Content of a file with the given arrays and attributes."""
    # The file is made in memory, because HDF5 crashes on a full disk.
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", userblock_size=_USER_BLOCK) as file:
        file.attrs.update({"schema": SCHEMA, **attributes})
        for name, array in arrays.items():
            if array.size == 0:
                file.create_dataset(name, data=array)
                continue
            row_bytes = array.dtype.itemsize * int(np.prod(array.shape[1:], dtype=np.int64))
            chunk = (min(len(array), max(1, _CHUNK_BYTES // row_bytes)), *array.shape[1:])
            file.create_dataset(
                name,
                data=array,
                chunks=chunk,
                shuffle=True,
                compression="gzip",
                compression_opts=4,
                fletcher32=True,
            )
    body = buffer.getvalue()[_USER_BLOCK:]
    return _signature(body) + body


def parse_arrays(data: bytes) -> dict[str, np.ndarray]:
    """All arrays of a file; the size to which they unpack is limited.

    Raises:
        DataError: When HDF5 cannot read the file, when it holds anything but plain arrays, or when the content is not
            what was written.
    """
    if data.startswith(_SIGNED) and data[:_USER_BLOCK] != _signature(data[_USER_BLOCK:]):
        raise DataError("the content is not what was written")
    try:
        with h5py.File(io.BytesIO(data), "r") as file:
            if file.attrs.get("schema", 0) > SCHEMA:
                raise DataError(f"schema {file.attrs['schema']} is newer than this program's {SCHEMA}")
            _check(file, len(data))
            return {name: np.asarray(file[name][...]) for name in file}
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, OverflowError, MemoryError) as error:
        raise DataError(f"not a readable shard ({error})") from error


def _signature(body: bytes) -> bytes:
    """User block of a shard, with the digest of everything after it."""
    return (_SIGNED + hashlib.sha256(body).hexdigest().encode() + b"\n").ljust(_USER_BLOCK, b"\0")


def _check(file: h5py.File, size: int) -> None:
    """Refuse what a shard never contains, before anything is read.

    Raises:
        ValueError: For links, groups, foreign storage or filters, odd types, or arrays that unpack to too much.
    """
    total = 0
    for name in file:
        if not isinstance(file.get(name, getlink=True), h5py.HardLink):
            raise ValueError(f"{name!r} is a link")
        dataset = file[name]
        if not isinstance(dataset, h5py.Dataset):
            raise ValueError(f"{name!r} is no array")
        if dataset.external is not None or dataset.is_virtual:
            raise ValueError(f"{name!r} is stored elsewhere")
        if dataset.dtype.kind not in "iufb" or dataset.dtype.itemsize > 8 or dataset.ndim > 3:
            raise ValueError(f"{name!r} has the type {dataset.dtype}, rank {dataset.ndim}")
        creation = dataset.id.get_create_plist()
        filters = {creation.get_filter(i)[0] for i in range(creation.get_nfilters())}
        if not filters <= _FILTERS:
            raise ValueError(f"{name!r} has foreign filters")
        total += dataset.dtype.itemsize * int(np.prod(dataset.shape, dtype=object))
        if total > _MAX_EXPANSION * size + _ALWAYS_ALLOWED:
            raise ValueError(f"{name!r} declares {total} bytes in a file of {size}")
