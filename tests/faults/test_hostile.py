"""F10-F12, F14-F17: files and inputs made to do harm."""

import collections
import json
import math
import os
import pickle
import resource
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from rdkit import Chem

from conformergen.chem import embed, mol_with_conformers, molecule_from_smiles
from conformergen.errors import DataError, MoleculeError
from conformergen.io.sandbox.process import SandboxReader
from conformergen.io.shards import read_arrays
from conformergen.runtime.workers import map_molecules

CANARY = "/tmp/conformergen-canary"


# --- pickles -----------------------------------------------------------------------------------------------


class _Reduce:
    def __init__(self, function, *arguments):
        self.what = function, arguments

    def __reduce__(self):
        return self.what


def _payloads():
    """Name and bytes of each attack: code by reduce, build, getattr, the extension registry; bombs; forged tensors."""
    import shutil
    import subprocess

    import torch
    from torch_geometric.data import Data

    touch = f"open({CANARY!r}, 'w')"
    for protocol in (0, 2, 4):
        yield f"system{protocol}", pickle.dumps(_Reduce(os.system, f"touch {CANARY}"), protocol)
        yield f"eval{protocol}", pickle.dumps(_Reduce(eval, touch), protocol)
        yield f"exec{protocol}", pickle.dumps({"CC": [_Reduce(exec, touch)]}, protocol)
        yield (
            f"popen{protocol}",
            pickle.dumps({"conformers": [{"rd_mol": _Reduce(subprocess.Popen, ["touch", CANARY])}]}, protocol),
        )
        yield f"rmtree{protocol}", pickle.dumps(_Reduce(shutil.rmtree, CANARY), protocol)
        yield f"getattr{protocol}", pickle.dumps(_Reduce(getattr, "a", "upper"), protocol)
    yield "inst", b"(S'touch " + CANARY.encode() + b"'\nios\nsystem\n."
    yield "obj", b"(cos\nsystem\nS'touch " + CANARY.encode() + b"'\no."
    yield "ext", b"\x82\x01."
    yield "persid", b"Pabc\n."
    yield "build", b"crdkit.Chem.rdchem\nMol\n(S'__setstate__'\ncos\nsystem\ndb."
    yield "build_class", b"ctorch_geometric.data.data\nData\n}S'attributes'\ncos\nsystem\nsb."
    yield "memo_bomb", b"\x80\x04" + b"]" + b"".join(b"\x94j" + i.to_bytes(4, "little") for i in range(200_000)) + b"."
    yield "nested", b"(" * 100_000 + b"t" * 100_000 + b"."
    yield "long_int", b"\x8b" + (2**31 - 1).to_bytes(4, "little") + b"."
    yield "deep_list", pickle.dumps({"conformers": [], "x": [[[[[[[[[[[[1]]]]]]]]]]]]})
    yield "string_length", b"X\xff\xff\xff\x7fabc."
    yield "torn", pickle.dumps({"CC": []})[:-4]
    yield "empty", b""
    yield "zip", b"PK\x03\x04" + b"\0" * 100
    yield "mol_bytes", pickle.dumps({"CC": [_Reduce(Chem.Mol, b"no molecule")]})
    yield "globals_dict", b"c__builtin__\nglobals\n(tR."
    yield "subclass", b"cbuiltins\nobject\n(tR."
    yield (
        "tensor",
        pickle.dumps([Data(smiles="C", pos=torch.zeros(1, 3))], 2).replace(b"K\x01K\x03\x86", b"K\xffK\x03\x86"),
    )
    yield "counter", pickle.dumps(collections.Counter("abc"))


PAYLOADS = dict(_payloads())


@pytest.mark.parametrize("name", PAYLOADS)
def test_no_payload_runs(name, tmp_path, cpu_limit):
    """F10: refused in a few seconds; neither the parent nor the child does what the file says."""
    canary = Path(CANARY)
    canary.unlink(missing_ok=True)
    path = tmp_path / "bad.pkl"
    path.write_bytes(PAYLOADS[name])
    # The start of the reader is part of it.
    with cpu_limit(6.0), SandboxReader() as child:
        with pytest.raises(DataError):
            child.load(path)
        good = tmp_path / "good.pkl"
        good.write_bytes(pickle.dumps({"CC": []}))
        assert child.load(good)[0]["keys"] == ["CC"]
    assert not canary.exists()


def test_there_are_thirty_payloads():
    assert len(PAYLOADS) >= 30


def test_mutated_molecules_never_hurt_the_parent(tmp_path, times):
    """F11: RDKit's binaries with bytes changed, in valid pickles: refused or read, and the next file is."""
    molecule = molecule_from_smiles("C[C@H](N)C(=O)O")
    mol = mol_with_conformers(molecule, embed(molecule, 1, seed=0))
    binary = mol.ToBinary()
    good = pickle.dumps({"C[C@H](N)C(=O)O": [mol]})
    marked = good.index(binary)
    rng = np.random.default_rng(0)
    read = refused = died = 0
    (tmp_path / "good.pkl").write_bytes(good)
    with SandboxReader() as child:
        for i in range(times(1_500, 100_000)):
            damaged = bytearray(good)
            for _ in range(int(rng.integers(1, 4))):
                damaged[marked + int(rng.integers(len(binary)))] = int(rng.integers(256))
            path = tmp_path / "m.pkl"
            path.write_bytes(bytes(damaged))
            try:
                child.load(path)
                read += 1
            except DataError as error:
                refused += 1
                died += "died" in str(error)
            if i % 50 == 0:
                assert len(child.load(tmp_path / "good.pkl")[1]["positions"]) == mol.GetNumAtoms()
    assert refused > 0
    assert read + refused == times(1_500, 100_000)


# --- HDF5 --------------------------------------------------------------------------------------------------


def _hdf5(path, kind):  # noqa: C901
    """A file that a shard must not be."""
    with h5py.File(path, "w") as file:
        file.attrs["schema"] = 1
        if kind == "huge":
            file.create_dataset("positions", shape=(2**40, 3), dtype="f4", chunks=(1024, 3))
        elif kind == "huge_constant":
            file.create_dataset(
                "positions", shape=(2**28, 3), dtype="f4", chunks=(2**20, 3), compression="gzip", fillvalue=1.0
            )
        elif kind == "soft_loop":
            file["positions"] = h5py.SoftLink("/positions")
        elif kind == "external_link":
            file["positions"] = h5py.ExternalLink("/etc/passwd", "/x")
        elif kind == "external_storage":
            file.create_dataset("positions", shape=(10,), dtype="u1", external=[("/etc/passwd", 0, 10)])
        elif kind == "virtual":
            layout = h5py.VirtualLayout(shape=(10, 3), dtype="f4")
            layout[:] = h5py.VirtualSource("/etc/passwd", "x", shape=(10, 3))
            file.create_virtual_dataset("positions", layout)
        elif kind == "group":
            file.create_group("positions")
        elif kind == "strings":
            file.create_dataset("smiles", data=np.array(["a", "b"], dtype=h5py.string_dtype()))
        elif kind == "objects":
            file.create_dataset("positions", data=np.zeros(3, dtype=[("a", "f4"), ("b", "i8")]))
        elif kind == "references":
            file.create_dataset("positions", shape=(3,), dtype=h5py.ref_dtype)
        elif kind == "rank":
            file.create_dataset("positions", shape=(1, 1, 1, 1, 1), dtype="f4")
        elif kind == "lzf":
            file.create_dataset("positions", data=np.zeros((1000, 3), "f4"), compression="lzf")
        elif kind == "scaleoffset":
            file.create_dataset("positions", data=np.zeros((1000, 3), "i4"), scaleoffset=3)
        elif kind == "vlen":
            file.create_dataset("positions", shape=(3,), dtype=h5py.vlen_dtype(np.dtype("f4")))
        elif kind == "quad":
            file.create_dataset("positions", data=np.zeros(3, dtype="f16"))
        elif kind == "complex":
            file.create_dataset("positions", data=np.zeros(3, dtype="c16"))
        elif kind == "enum":
            file.create_dataset("positions", data=np.zeros(3, "u1"), dtype=h5py.enum_dtype({"a": 0}, basetype="u1"))
            file["more"] = h5py.SoftLink("/nowhere")


HOSTILE = (
    "huge",
    "huge_constant",
    "soft_loop",
    "external_link",
    "external_storage",
    "virtual",
    "group",
    "strings",
    "objects",
)
HOSTILE += ("references", "rank", "lzf", "scaleoffset", "vlen", "quad", "complex", "enum")


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_hdf5_is_refused_before_it_is_read(kind, tmp_path, cpu_limit):
    """F12: in two seconds and without the memory it asks for."""
    path = tmp_path / "bad.h5"
    _hdf5(path, kind)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with cpu_limit(2.0), pytest.raises(DataError, match=r"bad\.h5"):
        read_arrays(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024


@pytest.mark.parametrize("change", ["offsets", "missing", "bond", "nan", "element", "text", "lengths", "split"])
def test_shards_with_impossible_content_are_refused(change, tmp_path, shard_folder):
    """F12: well-formed HDF5 that is no shard."""
    from conformergen.io.shards import read_shard

    arrays = read_arrays(next(shard_folder.glob("*.h5")))
    if change == "offsets":
        arrays["atom_offsets"] = arrays["atom_offsets"][::-1].copy()
    elif change == "missing":
        del arrays["positions"]
    elif change == "bond":
        arrays["bonds"] = arrays["bonds"] + 1000
    elif change == "nan":
        arrays["positions"][0, 0] = np.nan
    elif change == "element":
        arrays["atomic_numbers"][0] = 200
    elif change == "text":
        arrays["smiles"] = np.full_like(arrays["smiles"], 255)
    elif change == "lengths":
        arrays["positions"] = arrays["positions"][:-3]
    else:
        arrays["split"] = arrays["split"] + 50
    path = tmp_path / "bad.h5"
    with h5py.File(path, "w") as file:
        file.attrs["schema"] = 1
        for name, array in arrays.items():
            file[name] = array
    with pytest.raises(DataError, match=r"bad\.h5"):
        read_shard(path)


# --- molecules ---------------------------------------------------------------------------------------------


def test_garbage_among_lines_is_counted_exactly(run, tmp_path, times):
    """F14."""
    n = times(1_000, 100_000)
    garbage = [
        b"C\x00C bad",
        "CéC bad".encode(),
        b"C" * 1_000_000 + b" bad",
        b"C1CC1" * 4_000 + b" bad",
        b"c1cccc1 bad",
        b"[Na+].[Cl-] bad",
        b"\xff\xfe bad",
    ]
    lines = [b"CCO good" if i % 100 else garbage[i // 100 % len(garbage)] for i in range(n)]
    (tmp_path / "in.smi").write_bytes(b"\n".join(lines) + b"\n")
    code, said = run(
        "generate", tmp_path / "in.smi", "-n", 1, "--method", "etkdg", "-o", tmp_path / "out.sdf", timeout=3600
    )
    assert code == 1
    summary = json.loads(said.strip().splitlines()[-1])
    assert (summary["requested"], summary["failed"]) == (n, len(range(0, n, 100)))
    indices = [json.loads(x)["index"] for x in (tmp_path / "out.sdf.failures.jsonl").read_text().splitlines()]
    assert indices == list(range(0, n, 100))


def test_oversized_molecules_are_refused_at_once(cpu_limit):
    """F16: polyalanine of a thousand residues, and of five thousand."""
    for residues in (1_000, 5_000):
        smiles = "N" + "[C@@H](C)C(=O)N" * residues + "CC"
        with cpu_limit(2.0), pytest.raises(MoleculeError) as refused:
            molecule_from_smiles(smiles)
        assert refused.value.reason == "too-large"


def test_impossible_ring_is_embed_and_never_an_empty_geometry(run, tmp_path):
    """F17."""
    (tmp_path / "in.smi").write_text("C1#CC1 ring\nC1[C@H]2CC[C@H]1C2 bridge\nCCO good\n")
    code, said = run("generate", tmp_path / "in.smi", "-n", 2, "-o", tmp_path / "o.sdf")
    assert code == 1
    reasons = [json.loads(x)["reason"] for x in (tmp_path / "o.sdf.failures.jsonl").read_text().splitlines()]
    assert "embed" in reasons
    assert set(reasons) <= {"embed", "stereo"}
    for mol in Chem.SDMolSupplier(str(tmp_path / "o.sdf")):
        assert np.abs(mol.GetConformer().GetPositions()).max() > 0.1
    del said


def test_bad_workers_cost_only_their_molecules(tmp_path):
    """F4, F15, F21: one that sleeps is stopped, one that always dies is recorded, one that died once is not lost."""
    script = (
        "from hanging import work\n"
        "from conformergen.runtime.workers import map_molecules\n"
        "if __name__ == '__main__':\n"
        "    for result in map_molecules(work, range(10), jobs=2, timeout=2.0):\n"
        "        print(result if isinstance(result, int) else result.reason)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent / "helpers"), "ONCE": str(tmp_path / "once")}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=3600, env=environment
    )  # fmt: skip
    assert done.stdout.split() == ["0", "1", "timeout", "3", "crash", "5", "crash", "7", "oom", "oom"], done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("jobs", [1, 2])
def test_bug_costs_only_its_molecule(jobs, capfd):
    """An exception that nobody expects is a failure of its item with the traceback; one of the run ends the run."""
    first, bug, last = map_molecules(math.sqrt, [4, -1, 9], jobs=jobs)
    assert (first, last) == (2.0, 3.0)
    assert (bug.reason, str(bug)) == ("crash", "ValueError: math domain error")
    assert "Traceback" in capfd.readouterr().err
    with pytest.raises(FileNotFoundError):
        list(map_molecules(os.stat, ["/none"], jobs=jobs))


def test_script_without_a_guard_is_told_so(tmp_path):
    """Its worker processes run the script again; the error is the script's, not each molecule's."""
    script = tmp_path / "script.py"
    script.write_text("from conformergen.runtime.workers import map_molecules\nlist(map_molecules(abs, [1], jobs=2))\n")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=3600)
    assert done.returncode == 1
    assert "WorkerStartError: a worker process could not start" in done.stderr
