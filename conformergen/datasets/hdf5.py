"""HDF5 with a digest before its first byte: what shards are made of, as bytes in memory.

Only numbers in named arrays; everything else that HDF5 can hold is refused before it is read. Files that may be
hostile are parsed in a disposable process (``reader_process``), because HDF5 can crash or loop on crafted metadata.
"""

import hashlib
import io
from typing import Final

import h5py
import numpy as np

from conformergen.errors import DataError

SCHEMA: Final = 1
#: Rows of 256 kB chunks by bytes per row.
_CHUNK_BYTES: Final = 262_144
#: What stands before the HDF5 part: its digest is checked before HDF5 parses a byte, because HDF5 can loop for ever
#: on damaged metadata.
_SIGNED: Final = b"conformergen shard sha256 "
_USER_BLOCK: Final = 512
#: Filters that HDF5 itself brings, and how much more a file may unpack to: gzip of constant arrays reaches 1000.
_FILTERS: Final = frozenset({h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32})
_MOST_TIMES, _SLACK = 50, 2**24


def pack_arrays(arrays: dict[str, np.ndarray], attributes: dict[str, str]) -> bytes:
    """Content of a file with these arrays and attributes."""
    # HDF5 never sees the disk: it crashes on a full one.
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
    """All arrays, with a limit on what they may unpack to.

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
    """User block of a shard: the digest of everything after it."""
    return (_SIGNED + hashlib.sha256(body).hexdigest().encode() + b"\n").ljust(_USER_BLOCK, b"\0")


def _check(file: h5py.File, size: int) -> None:
    """Refuse what a shard never holds, before anything is read.

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
        if total > _MOST_TIMES * size + _SLACK:
            raise ValueError(f"{name!r} declares {total} bytes in a file of {size}")
