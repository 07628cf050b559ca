"""The disposable process of the sandbox: reads pickles through an allow-list, and HDF5, and answers in plain arrays.

Run as ``python -m conformergen.io.sandbox.child``. Standard input holds one path on each line. For each path, standard
output receives eight bytes of length and an ``.npz`` file without objects. The parent never unpickles anything. This
process does not import torch, and its memory and CPU time are limited.
"""

import io
import json
import pickle
import pickletools
import resource
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
from rdkit import Chem

from conformergen.chem.molecule import BOND_CODES
from conformergen.io.hdf5 import parse_arrays
from conformergen.io.sandbox.pyg_pickles import (
    Array,
    OpaqueObject,
    array_from_buffer,
    is_object,
    legacy_storage,
    load_archive,
    rebuild_array,
    rebuild_tensor,
    storage_code,
)

#: Largest pickle, and largest unpacked archive, bytes.
MAX_BYTES: Final = 256 * 2**20
#: Largest number of operations of a pickle.
MAX_OPERATIONS: Final = 5_000_000
#: Largest binary representation of a molecule, bytes.
MAX_MOL_BYTES: Final = 2**20
#: Deepest nesting of the plain data that are handed on.
MAX_DEPTH: Final = 8
#: Address space of this process, bytes.
_MEMORY: Final = 2 * 2**30
#: CPU time of this process, seconds.
_CPU_SECONDS: Final = 3600
#: Pickle opcodes that build arbitrary objects.
_REFUSED: Final = frozenset(
    {"INST", "OBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4", "PERSID", "NEXT_BUFFER", "READONLY_BUFFER"}
)


class _Holder:
    """Stands for a ``Mol`` inside the unpickler: its bytes, and no attribute that BUILD could write to."""

    __slots__ = ("binary",)

    def __init__(self, binary: bytes) -> None:
        if not isinstance(binary, bytes) or len(binary) > MAX_MOL_BYTES:
            raise pickle.UnpicklingError("a Mol takes one bytes argument of limited size")
        self.binary = binary

    def __setstate__(self, state: object) -> None:
        """Ignore attributes of the Mol."""

    def mol(self) -> Chem.Mol:
        """The molecule."""
        return Chem.Mol(self.binary)  # type: ignore[call-overload]  # the stubs know no bytes


class _DType:
    """Placeholder for a NumPy dtype of a plain number."""

    __slots__ = ("code",)

    def __init__(self, code: str) -> None:
        if code.removeprefix("<").removeprefix("|") not in ("f4", "f8", "i1", "i2", "i4", "i8", "u1", "b1"):
            raise pickle.UnpicklingError(f"dtype {code!r} is not allowed")
        self.code = code

    def __setstate__(self, state: object) -> None:
        """Ignore byte order and the like, which the code of the type determines."""


class _Callable:
    """Factory without attributes: BUILD and SETATTR find nothing to change."""

    __slots__ = ("_make",)

    def __init__(self, make: Any) -> None:
        self._make = make

    def __call__(self, *args: Any) -> Any:
        return self._make(*args)


def _scalar(dtype: _DType, data: bytes) -> float | int | bool:
    return np.frombuffer(data, dtype=np.dtype(dtype.code))[0].item()


def _encode(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise pickle.UnpicklingError("only latin1 bytes are allowed")
    return text.encode("latin-1")


def _dtype(code: str, *_: object) -> _DType:
    return _DType(code)


#: Globals that a pickle may name, and what takes their place.
_ALLOWED: Final = {
    ("rdkit.Chem.rdchem", "Mol"): _Holder,
    ("rdkit.Chem", "Mol"): _Holder,
    ("_codecs", "encode"): _encode,
    ("numpy", "dtype"): _dtype,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy._core.multiarray", "scalar"): _scalar,
    ("numpy", "ndarray"): rebuild_array,
    ("numpy.core.multiarray", "_reconstruct"): rebuild_array,
    ("numpy._core.multiarray", "_reconstruct"): rebuild_array,
    ("numpy.core.numeric", "_frombuffer"): array_from_buffer,
    ("numpy._core.numeric", "_frombuffer"): array_from_buffer,
    ("collections", "OrderedDict"): lambda: {},
    ("torch._utils", "_rebuild_tensor_v2"): rebuild_tensor,
    ("torch.storage", "_load_from_bytes"): lambda data: legacy_storage(data, _unpickle),
}


class RestrictedUnpickler(pickle.Unpickler):
    """Unpickler that knows the names that occur in conformer files, and no others."""

    def __init__(self, data: bytes, storage: Callable[[Any], Any] | None = None) -> None:
        super().__init__(io.BytesIO(data))
        self._storage = storage

    def find_class(self, module: str, name: str) -> Any:
        """Return a harmless factory, or refuse the name."""
        if is_object(module, name):
            return OpaqueObject
        if (code := storage_code(module, name)) is not None:
            return _DType(code)
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"{module}.{name} is not allowed")
        return _Callable(_ALLOWED[module, name])

    def persistent_load(self, key: Any) -> Any:
        """Storage of a torch archive; refused outside of one."""
        if self._storage is None:
            raise pickle.UnpicklingError("persistent ids belong into torch archives")
        return self._storage(key)


def _unpickle(data: bytes, storage: Callable[[Any], Any] | None = None) -> Any:
    scan(data)
    return RestrictedUnpickler(data, storage).load()


class _ArrayUnpickler(pickle.Unpickler):
    """Unpickler for ``split0.npy``, an object array of index arrays."""

    def find_class(self, module: str, name: str) -> Any:
        """Allow NumPy's own array constructors only."""
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name == "_reconstruct":
            return np.zeros(0).__reduce__()[0]
        if module == "numpy" and name in ("ndarray", "dtype"):
            return getattr(np, name)
        raise pickle.UnpicklingError(f"{module}.{name} is not allowed in a split file")


def scan(data: bytes) -> None:
    """Refuse opcodes that build arbitrary objects, before anything is executed."""
    if len(data) > MAX_BYTES:
        raise pickle.UnpicklingError(f"file of {len(data)} bytes; the limit is {MAX_BYTES}")
    for count, (opcode, _, _) in enumerate(pickletools.genops(data)):
        if opcode.name in _REFUSED:
            raise pickle.UnpicklingError(f"opcode {opcode.name} is not allowed")
        if count > MAX_OPERATIONS:
            raise pickle.UnpicklingError("too many operations")


def _to_builtin(value: Any, depth: int = 0) -> Any:
    """Copy of a result that JSON can represent: numbers, strings and containers of them, without Mols."""
    if depth > MAX_DEPTH:
        raise pickle.UnpicklingError("nested too deeply")
    if isinstance(value, dict):
        return {str(k): _to_builtin(v, depth + 1) for k, v in value.items() if not isinstance(v, _Holder)}
    if isinstance(value, list | tuple):
        return [_to_builtin(v, depth + 1) for v in value if not isinstance(v, _Holder)]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise pickle.UnpicklingError(f"unexpected {type(value).__name__}")


def load_mols(data: bytes) -> bytes:
    """Conformers of a file as an ``.npz``: a JSON header and the conformers' arrays.

    Accepted are GEOM pickles, ``{smiles: [Mol]}`` pickles, and PyG ``Data`` or lists of them.
    """
    if data.startswith(b"PK"):
        content = load_archive(data, _unpickle, max_bytes=MAX_BYTES)
    else:
        content = _unpickle(data)
    if isinstance(content, OpaqueObject):
        content = [content]
    if isinstance(content, list) and content and all(isinstance(item, OpaqueObject) for item in content):
        return _load_data([item.attributes() for item in content])
    if not isinstance(content, dict):
        raise pickle.UnpicklingError("neither a GEOM file, a dict of lists of Mols, nor PyG Data")
    if isinstance(content.get("conformers"), list):
        return _pack(_to_builtin(content), _columns([conformer["rd_mol"].mol() for conformer in content["conformers"]]))
    for key, mols in content.items():
        if not isinstance(key, str) or not isinstance(mols, list) or not all(isinstance(m, _Holder) for m in mols):
            raise pickle.UnpicklingError("neither a GEOM file nor a dict of lists of Mols")
    header = {"keys": list(content), "counts": [len(mols) for mols in content.values()]}
    return _pack(header, _columns([mol.mol() for mols in content.values() for mol in mols]))


def _load_data(items: list[Mapping[str, Any]]) -> bytes:
    """Samples and references of each ``Data``; consecutive ``Data`` of one SMILES are joined."""
    keys: list[str] = []
    ensembles: dict[str, list[list[Chem.Mol]]] = {"samples": [], "references": []}
    for item in items:
        smiles = item.get("smiles")
        if not isinstance(smiles, str):
            raise pickle.UnpicklingError("a Data without smiles")
        graph = _graph(item, smiles)
        own = {
            "samples": _with_positions(graph, item.get("pos_gen", item.get("pos"))),
            "references": _with_positions(graph, item.get("pos_ref")),
        }
        if "pos_gen" not in item and keys and keys[-1] == smiles:
            ensembles["samples"][-1] += own["samples"]
            continue
        keys.append(smiles)
        for name, mols in own.items():
            ensembles[name].append(mols)
    header: dict[str, Any] = {"keys": keys, "counts": [len(mols) for mols in ensembles["samples"]]}
    arrays = _columns([mol for mols in ensembles["samples"] for mol in mols])
    if any(ensembles["references"]):
        header["reference_counts"] = [len(mols) for mols in ensembles["references"]]
        references = _columns([mol for mols in ensembles["references"] for mol in mols])
        arrays |= {f"reference_{name}": array for name, array in references.items()}
    return _pack(header, arrays)


def _graph(item: Mapping[str, Any], smiles: str) -> Chem.Mol:
    """Molecule in the order of the positions: the ``rdmol``, or an atom-mapped SMILES whose maps are the rows."""
    holder = item.get("rdmol")
    if isinstance(holder, _Holder):
        return holder.mol()
    parameters = Chem.SmilesParserParams()
    parameters.removeHs = False  # type: ignore[assignment]  # the stubs are wrong
    mol = Chem.MolFromSmiles(smiles, parameters)
    if mol is None:
        raise pickle.UnpicklingError("neither an rdmol nor a readable SMILES")
    maps = [atom.GetAtomMapNum() for atom in mol.GetAtoms()]
    return Chem.RenumberAtoms(mol, np.argsort(maps, kind="stable").tolist())


def _with_positions(graph: Chem.Mol, positions: object) -> list[Chem.Mol]:
    """One molecule for each frame of positions of the shape (conf * atom, 3) or (conf, atom, 3)."""
    array = positions.value if isinstance(positions, Array) else positions
    if not isinstance(array, np.ndarray) or array.size == 0:
        return []
    n = graph.GetNumAtoms()
    if array.ndim not in (2, 3) or array.shape[-1] != 3 or array.size % (3 * n) or array.shape[-2] % n:
        raise pickle.UnpicklingError("positions do not fit the molecule")
    frames = []
    for frame in array.reshape(-1, n, 3).astype(np.float64):
        mol = Chem.Mol(graph)
        mol.RemoveAllConformers()
        conformer = Chem.Conformer(n)
        conformer.SetPositions(np.ascontiguousarray(frame))
        mol.AddConformer(conformer)
        frames.append(mol)
    return frames


def _columns(mols: list[Chem.Mol]) -> dict[str, np.ndarray]:
    """Arrays of all molecules, one after the other."""
    columns: dict[str, list[np.ndarray]] = {k: [] for k in ("numbers", "charges", "bonds", "types", "positions")}
    sizes = []
    for mol in mols:
        sizes.append((mol.GetNumAtoms(), mol.GetNumBonds()))
        columns["numbers"].append(np.array([a.GetAtomicNum() for a in mol.GetAtoms()], dtype=np.uint8))
        columns["charges"].append(np.array([a.GetFormalCharge() for a in mol.GetAtoms()], dtype=np.int8))
        pairs = [(b.GetBeginAtomIdx(), b.GetEndAtomIdx()) for b in mol.GetBonds()]
        columns["bonds"].append(np.array(pairs, dtype=np.int32).reshape(-1, 2))
        codes = [BOND_CODES.get(b.GetBondType(), 1) for b in mol.GetBonds()]
        columns["types"].append(np.array(codes, dtype=np.uint8))
        columns["positions"].append(mol.GetConformer().GetPositions().astype(np.float32))
    arrays = {k: np.concatenate(v) if v else np.zeros(0) for k, v in columns.items()}
    arrays["sizes"] = np.array(sizes, dtype=np.int64).reshape(-1, 2)
    return arrays


def load_split(data: bytes) -> bytes:
    """``split0.npy`` as an ``.npz`` of three integer arrays."""
    stream = io.BytesIO(data)
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        np.lib.format.read_array_header_1_0(stream)
    else:
        np.lib.format.read_array_header_2_0(stream)
    parts = _ArrayUnpickler(stream).load()
    arrays = {f"part{i}": np.asarray(part, dtype=np.int64) for i, part in enumerate(parts)}
    return _pack({}, arrays)


def _pack(header: Any, arrays: dict[str, np.ndarray]) -> bytes:
    buffer = io.BytesIO()
    text = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)
    np.savez(buffer, header=text, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def _answer(path: Path) -> bytes:
    try:
        data = path.read_bytes()
        if path.suffix == ".h5":
            return _pack({}, parse_arrays(data))
        return load_split(data) if path.suffix == ".npy" else load_mols(data)
    except Exception as error:  # noqa: BLE001  hostile bytes may raise anything; the process is disposable
        return _pack({"error": f"{type(error).__name__}: {error}"[:300]}, {})


def main(lines: BinaryIO, out: BinaryIO) -> None:
    """Answer one file for each line until the input ends."""
    for line in lines:
        answer = _answer(Path(line.rstrip(b"\n").decode()))
        out.write(len(answer).to_bytes(8, "little") + answer)
        out.flush()


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (_CPU_SECONDS, _CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    main(sys.stdin.buffer, sys.stdout.buffer)
