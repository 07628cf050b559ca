"""F10-F12 by chance: mutated files of every kind that is read, and mutated text. Refused or read; the parent lives."""

import io
import json
import pickle
import time
import zlib

import numpy as np
import pytest
import torch
from torch_geometric.data import Data

from conformergen.checkpoint.model import load_model
from conformergen.chem import embed, mol_with_conformers, molecule_from_smiles
from conformergen.config import PRESETS, load_config
from conformergen.errors import DataError, InputError, MoleculeError
from conformergen.io.formats.sdf import read as read_sdf
from conformergen.io.hdf5 import parse_arrays
from conformergen.io.inputs import read_inputs
from conformergen.io.manifest import MANIFEST, read_manifest
from conformergen.io.sandbox.process import SandboxReader
from conformergen.io.shards import read_shard

#: CPU time in which a damaged file must be refused or read, seconds.
SECONDS = 2.0


def _mutated(data, rng):
    """Some bytes changed, a piece cut out, doubled or moved, or the end lost."""
    damaged = bytearray(data)
    for _ in range(int(rng.integers(1, 5))):
        kind, at = rng.random(), int(rng.integers(max(1, len(damaged))))
        if kind < 0.7:
            damaged[at : at + 1] = bytes([int(rng.choice([0, 1, 127, 128, 255, rng.integers(256)]))])
        elif kind < 0.8:
            del damaged[at : at + int(rng.integers(1, 9))]
        elif kind < 0.95:
            piece = damaged[at : at + int(rng.integers(1, 9))]
            damaged[at:at] = piece * int(rng.integers(1, 4))
        else:
            del damaged[at:]
    return bytes(damaged)


def _pickles():
    molecule = molecule_from_smiles("C[C@H](N)C(=O)O")
    mol = mol_with_conformers(molecule, embed(molecule, 2, seed=0))
    geom = {"conformers": [{"rd_mol": mol, "relativeenergy": np.float64(0.5), "boltzmannweight": 1.0}], "smiles": "C"}
    for protocol in range(6):
        yield f"geom{protocol}.pickle", pickle.dumps(geom, protocol)
    sample = Data(smiles="C[C@H](N)C(=O)O", rdmol=mol, pos_gen=torch.zeros(2 * mol.GetNumAtoms(), 3))
    yield "geodiff.pkl", pickle.dumps([sample], 4)
    buffer = io.BytesIO()
    torch.save([sample], buffer)
    yield "etflow.pt", buffer.getvalue()
    array = io.BytesIO()
    np.save(array, np.array([np.arange(3), np.arange(4), np.arange(5)], dtype=object), allow_pickle=True)
    yield "split0.npy", array.getvalue()


def _resigned(data):
    """A shard whose digest fits its damaged content, as an attacker would write it."""
    from conformergen.io.hdf5 import _USER_BLOCK, _signature

    return _signature(data[_USER_BLOCK:]) + data[_USER_BLOCK:]


PICKLES = dict(_pickles())


@pytest.mark.parametrize("name", PICKLES)
def test_mutated_pickles_and_archives(name, tmp_path, times):
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    path = tmp_path / name
    outcomes = {"read": 0, "refused": 0}
    with SandboxReader() as child:
        for _ in range(times(200, 20_000)):
            path.write_bytes(_mutated(PICKLES[name], rng))
            try:
                child.load(path, seconds=SECONDS + 3.0)
                outcomes["read"] += 1
            except DataError:
                outcomes["refused"] += 1
        path.write_bytes(PICKLES[name])
        child.load(path)
    assert outcomes["refused"] > 0


def test_mutated_hdf5_with_a_fitting_digest(shard_folder, tmp_path, times):
    """HDF5 crashes and loops on some of these: in the child."""
    whole = next(shard_folder.glob("*.h5")).read_bytes()
    assert parse_arrays(whole)
    rng = np.random.default_rng(7)
    path = tmp_path / "m.h5"
    outcomes = {"read": 0, "refused": 0}
    with SandboxReader() as child:
        for _ in range(times(600, 50_000)):
            path.write_bytes(_resigned(_mutated(whole, rng)))
            try:
                child.load(path, seconds=SECONDS + 3.0)
                outcomes["read"] += 1
            except DataError:
                outcomes["refused"] += 1
        path.write_bytes(whole)
        child.load(path)
    assert min(outcomes.values()) > 0


@pytest.mark.parametrize("what", ["manifest", "settings", "configuration"])
def test_mutated_json_and_toml(what, shard_folder, tiny_run, tmp_path, times):
    rng = np.random.default_rng(3)
    if what == "manifest":
        data = (shard_folder / MANIFEST).read_bytes()
    elif what == "settings":
        data = (tiny_run / "best" / "settings.json").read_bytes()
        weights = (tiny_run / "best" / "model.safetensors").read_bytes()
    else:
        data = b"[network]\nchannels = 32\nlayers = 2\n[training]\nsteps = 10\nlearning_rate = 1e-3\n"
    refused = 0
    for _ in range(times(400, 20_000)):
        damaged = _mutated(data, rng)
        began = time.process_time()
        try:
            if what == "manifest":
                (tmp_path / MANIFEST).write_bytes(damaged)
                read_manifest(tmp_path)
            elif what == "settings":
                import hashlib

                files = {"settings.json": damaged, "model.safetensors": weights}
                digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
                for name, content in {**files, "digest.json": json.dumps(digests).encode()}.items():
                    (tmp_path / name).write_bytes(content)
                load_model(tmp_path)
            else:
                (tmp_path / "run.toml").write_bytes(damaged)
                load_config(next(iter(PRESETS)), tmp_path / "run.toml", [])
        except (InputError, DataError):
            refused += 1
        assert time.process_time() - began < SECONDS
    assert refused > 0


@pytest.mark.parametrize("suffix", [".smi", ".csv", ".sdf"])
def test_mutated_text(suffix, tmp_path, times):
    """Every line is a record or a failure, never an exception of another kind."""
    rng = np.random.default_rng(5)
    smiles = ["C[C@H](N)C(=O)O ala", "c1ccccc1CCN amine", "C/C=C/C(=O)[O-] acid", "OC1CC(O)CC1 diol"]
    text = "\n".join(smiles) + "\n"
    if suffix == ".csv":
        text = "smiles,name,n_conformers\n" + "".join(",".join([*s.split(), "3"]) + "\n" for s in smiles)
    elif suffix == ".sdf":
        molecule = molecule_from_smiles("C[C@H](N)C(=O)O")
        from rdkit import Chem

        text = Chem.MolToMolBlock(mol_with_conformers(molecule, embed(molecule, 1, seed=0))) + "$$$$\n"
    path = tmp_path / f"in{suffix}"
    parsed = refused = 0
    for _ in range(times(400, 20_000)):
        path.write_bytes(_mutated(text.encode(), rng))
        began = time.process_time()
        try:
            if suffix == ".sdf":
                list(read_sdf(path))
            for record in read_inputs(str(path)):
                molecule_from_smiles(record.smiles, record.name)
                parsed += 1
        except (InputError, DataError, MoleculeError):
            refused += 1
        assert time.process_time() - began < SECONDS
    assert parsed > 0
    assert refused > 0


def test_shard_that_was_read_is_a_shard(shard_folder, tmp_path, times):
    """What HDF5 makes of damaged bytes is checked like any other content: offsets, bonds, elements, numbers."""
    whole = next(shard_folder.glob("*.h5")).read_bytes()
    rng = np.random.default_rng(11)
    path = tmp_path / "m.h5"
    read = 0
    for _ in range(times(100, 5_000)):
        path.write_bytes(_resigned(_mutated(whole, rng)))
        try:
            for entry in read_shard(path):
                assert np.isfinite(entry.conformers.positions).all()
                read += 1
        except DataError:
            continue
    assert read > 0
