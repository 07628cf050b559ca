"""Tests of ``conformergen.io.shards``."""

import shutil

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import VARIED, repeat

from conformergen.chem import molecule_from_smiles
from conformergen.errors import DataError
from conformergen.io.manifest import MANIFEST
from conformergen.io.shards import ShardEntry, read_folder, read_shard, write_shard
from conformergen.records import ConformerSet


def _positions(n_conf, n_atoms, seed):
    return np.random.default_rng(seed).normal(size=(n_conf, n_atoms, 3)).astype(np.float32)


def test_shard_round_trip(ensembles, tmp_path):
    entries = [ShardEntry(conformers=s, split="val") for s in ensembles]
    first = write_shard(tmp_path / "a.h5", entries)
    second = write_shard(tmp_path / "b.h5", entries)
    assert first.sha256 == second.sha256
    for before, after in zip(ensembles, (e.conformers for e in read_shard(tmp_path / "a.h5")), strict=True):
        np.testing.assert_array_equal(before.positions, after.positions)
        np.testing.assert_array_equal(before.starts, after.starts)
        assert (before.molecule.smiles, before.molecule.name) == (after.molecule.smiles, after.molecule.name)
        for name in ("bonds", "centres", "handedness", "double_bonds", "cis", "atom_features"):
            np.testing.assert_array_equal(getattr(before.molecule.graph, name), getattr(after.molecule.graph, name))
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["positions"].fletcher32
        assert file["positions"].shuffle


def test_no_flipped_bit_goes_unnoticed(shard_folder, tmp_path):
    rng = np.random.default_rng(0)
    folder = tmp_path / "copy"
    shutil.copytree(shard_folder, folder)
    path = folder / "shard-00000.h5"
    data = bytearray(path.read_bytes())
    for bit in rng.integers(len(data) * 8, size=20):
        data[bit // 8] ^= 1 << (bit % 8)
        path.write_bytes(data)
        with pytest.raises(DataError):
            list(read_folder(folder))
        data[bit // 8] ^= 1 << (bit % 8)
    (folder / MANIFEST).write_text("{")
    with pytest.raises(DataError):
        list(read_folder(folder))


@repeat
@given(
    st.lists(
        st.tuples(st.sampled_from(VARIED), st.integers(0, 4), st.sampled_from(("train", "val", "test"))), max_size=6
    )
)
def test_shards_hold_any_ragged_content(tmp_path, entries):
    """Molecules of one atom, ensembles of no conformer, no molecule at all."""
    made = []
    for i, (smiles, n, split) in enumerate(entries):
        molecule = molecule_from_smiles(smiles, f"name {i} é")
        conformers = ConformerSet(
            molecule=molecule,
            positions=_positions(n, molecule.graph.n_atoms, i),
            energies=np.arange(n, dtype=np.float64),
            weights=np.full(n, 0.25),
            source_idx=np.arange(n, dtype=np.int32),
        )
        made.append(ShardEntry(conformers=conformers, split=split))
    if not made:
        return
    line = write_shard(tmp_path / "s.h5", made)
    assert line.molecules == len(made)
    assert line.conformers == sum(len(e.conformers) for e in made)
    first = (tmp_path / "s.h5").read_bytes()
    back = read_shard(tmp_path / "s.h5")
    assert len(back) == len(made)
    for a, b in zip(made, back, strict=True):
        assert (a.split, a.conformers.molecule.smiles, a.conformers.molecule.name) == (
            b.split,
            b.conformers.molecule.smiles,
            b.conformers.molecule.name,
        )
        np.testing.assert_array_equal(a.conformers.positions, b.conformers.positions)
        np.testing.assert_array_equal(a.conformers.molecule.graph.bonds, b.conformers.molecule.graph.bonds)
    write_shard(tmp_path / "s.h5", made)
    assert (tmp_path / "s.h5").read_bytes() == first
