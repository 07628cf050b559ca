"""Readers, unpickling, shards, splits, preprocessing."""

import io
import json
import pickle
import shutil

import h5py
import numpy as np
import pytest
from rdkit import Chem

from conformergen.chem import embed, mol_with_conformers, molecule_from_smiles
from conformergen.commands.preprocess import PreprocessSettings, check_sources, preprocess
from conformergen.datasets.loader import TrainingSet
from conformergen.datasets.splits import file_split, random_split, scaffold_split
from conformergen.errors import DataError, InputError
from conformergen.io.formats import READERS, detect_format
from conformergen.io.inputs import read_inputs
from conformergen.io.manifest import MANIFEST
from conformergen.io.sandbox.process import SandboxReader
from conformergen.io.shards import ShardEntry, read_folder, read_shard, write_shard


class _Attack:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        import os

        return (os.system, (f"touch {self.target}",))


@pytest.fixture
def geom_folder(tmp_path):
    """GEOM layout: two good conformers, one in another atom order, one reacted, one mirror image."""
    folder = tmp_path / "rdkit_folder"
    (folder / "drugs").mkdir(parents=True)
    molecule = molecule_from_smiles("C[C@H](N)C(=O)O")
    positions = embed(molecule, 3, seed=0)
    mols = [mol_with_conformers(molecule, p[None]) for p in positions]
    mols[1] = Chem.RenumberAtoms(mols[1], list(reversed(range(mols[1].GetNumAtoms()))))
    isomer = molecule_from_smiles("NCCC(=O)O")
    mols.append(mol_with_conformers(isomer, embed(isomer, 1, seed=0)))
    mols.append(mol_with_conformers(molecule, -positions[:1]))
    records = [
        {"rd_mol": m, "relativeenergy": float(5 - i), "boltzmannweight": 0.2, "geom_id": i} for i, m in enumerate(mols)
    ]
    content = {"smiles": molecule.smiles, "totalconfs": np.int64(5), "conformers": records}
    (folder / "drugs" / "a.pickle").write_bytes(pickle.dumps(content))
    summary = {molecule.smiles: {"pickle_path": "drugs/a.pickle"}, "CCO": {"charge": 0}}
    (folder / "summary_drugs.json").write_text(json.dumps(summary))
    return folder


def test_geom_folder_is_cleaned_and_counted(geom_folder, tmp_path):
    summary = preprocess([geom_folder], tmp_path / "out", PreprocessSettings(split="train"))
    assert (summary.requested, summary.done, summary.failed) == (2, 1, 1)
    assert summary.dropped == {"reacted": 1, "stereo": 1}
    (conformers,) = read_folder(tmp_path / "out")
    assert conformers.energies.tolist() == [0.0, 1.0, 2.0]
    assert conformers.source_idx.tolist() == [2, 1, 0]
    assert conformers.starts.shape == conformers.positions.shape
    assert check_sources([geom_folder], PreprocessSettings())["dropped reacted"] == 1


def test_preprocess_resumes_and_refuses_other_settings(geom_folder, tmp_path):
    out = tmp_path / "out"
    preprocess([geom_folder], out, PreprocessSettings())
    first = (out / "shard-00000.h5").read_bytes()
    stamp = (out / "shard-00000.h5").stat().st_mtime_ns
    preprocess([geom_folder], out, PreprocessSettings())
    assert (out / "shard-00000.h5").stat().st_mtime_ns == stamp
    (out / "shard-00000.h5").unlink()
    preprocess([geom_folder], out, PreprocessSettings())
    assert (out / "shard-00000.h5").read_bytes() == first
    with pytest.raises(InputError, match="other sources or settings"):
        preprocess([geom_folder], out, PreprocessSettings(max_confs=1))


def test_shards_keep_their_split_or_get_another(geom_folder, tmp_path):
    out, molecule = tmp_path / "out", molecule_from_smiles("C[C@H](N)C(=O)O")
    (tmp_path / "split.json").write_text(json.dumps({"train": [1], "val": [], "test": [0]}))
    preprocess([geom_folder], out, PreprocessSettings(split=str(tmp_path / "split.json"), starts=None))
    for split, expected in (("keep", "test"), ("train", "train"), ("random", random_split(molecule, 0))):
        settings = PreprocessSettings(split=split, starts=None)
        for name, source in (("folder", out), ("file", out / "shard-00000.h5")):
            preprocess([source], tmp_path / split / name, settings)
            assert len(list(read_folder(tmp_path / split / name, split=expected))) == 1
    with pytest.raises(InputError, match="keep is for shards"):
        preprocess([geom_folder], tmp_path / "none", PreprocessSettings(split="keep"))
    with pytest.raises(InputError, match="keep is for shards"):
        check_sources([geom_folder, out], PreprocessSettings(split="keep"))


def test_workers_give_the_same_shard(geom_folder, tmp_path):
    preprocess([geom_folder], tmp_path / "one", PreprocessSettings(), jobs=1)
    preprocess([geom_folder], tmp_path / "two", PreprocessSettings(), jobs=2)
    assert (tmp_path / "one/shard-00000.h5").read_bytes() == (tmp_path / "two/shard-00000.h5").read_bytes()


def test_exclusion_takes_stereoisomers_too(geom_folder, tmp_path):
    listed = tmp_path / "test.smi"
    listed.write_text("C[C@@H](N)C(=O)O other-enantiomer\n")
    settings = PreprocessSettings(exclude_smiles=(str(listed),))
    summary = preprocess([geom_folder], tmp_path / "out", settings)
    assert (summary.requested, summary.excluded) == (1, 1)


@pytest.mark.parametrize("protocol", range(6))
def test_unpickler_reads_geom_files_of_all_protocols(geom_folder, protocol, tmp_path):
    content = {"conformers": [{"rd_mol": Chem.AddHs(Chem.MolFromMolBlock(_block()), addCoords=True)}]}
    path = tmp_path / "x.pickle"
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    with SandboxReader() as child:
        header, arrays = child.load(path)
    assert header == {"conformers": [{}]}
    assert arrays["sizes"].tolist() == [[5, 4]]


def _block():
    mol = Chem.MolFromSmiles("C")
    conformer = Chem.Conformer(1)
    mol.AddConformer(conformer)
    return Chem.MolToMolBlock(mol)


def test_unpickler_runs_nothing(tmp_path):
    canary = tmp_path / "canary"
    bad, good = tmp_path / "bad.pickle", tmp_path / "good.pickle"
    good.write_bytes(pickle.dumps({"conformers": []}))
    payloads = [
        pickle.dumps({"conformers": [_Attack(canary)]}),
        b"cposix\nsystem\n(S'touch " + str(canary).encode() + b"'\ntR.",
        pickle.dumps({"conformers": [{"rd_mol": io.BytesIO(b"x")}]}),
        b"\x80\x04\x95",
        b"",
    ]
    with SandboxReader() as child:
        for payload in payloads:
            bad.write_bytes(payload)
            with pytest.raises(DataError):
                child.load(bad)
        assert child.load(good)[0] == {"conformers": []}
    assert not canary.exists()


def test_split_file_in_both_formats(tmp_path):
    parts = [np.array([0, 3]), np.array([1]), np.array([2])]
    ragged = np.empty(3, dtype=object)
    ragged[:] = parts
    np.save(tmp_path / "split0.npy", ragged, allow_pickle=True)
    np.savez(tmp_path / "split.npz", train=parts[0], val=parts[1], test=parts[2])
    for name in ("split0.npy", "split.npz"):
        split = file_split(tmp_path / name)
        molecule = molecule_from_smiles("C")
        assert [split(molecule, i) for i in range(4)] == ["train", "val", "test", "train"]
        with pytest.raises(InputError):
            split(molecule, 9)


def test_random_split_keeps_isomers_together_and_scaffolds_too():
    left, right = molecule_from_smiles("C[C@H](N)C(=O)O"), molecule_from_smiles("C[C@@H](N)C(=O)O")
    assert random_split(left, 0) == random_split(right, 5)
    a, b = molecule_from_smiles("Cc1ccc2ccccc2c1"), molecule_from_smiles("OCc1ccc2ccccc2c1")
    assert scaffold_split(a, 0) == scaffold_split(b, 0)


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


def test_epoch_holds_every_conformer_once_and_depends_on_seed_and_epoch(ensembles):
    data = TrainingSet(ensembles, pair_budget=2000, confs_per_epoch=10)
    plan = data.plan(0, 3)
    assert sorted(e for b in plan for e in b) == [(i, c) for i in range(3) for c in range(4)]
    assert plan == data.plan(0, 3)
    assert plan != data.plan(0, 4)
    assert next(data.stream(0, 3, len(plan) - 1))[:2] == (3, len(plan))
    assert next(data.stream(0, 3, len(plan)))[:2] == (4, 1)


def test_inputs_keep_order_names_and_bad_lines(tmp_path):
    path = tmp_path / "x.smi"
    path.write_bytes(b"SMILES name\r\nCCO ethanol and more\r\n\r\n# comment\nCCN\tamine\nC\xff bad\nCCC\n")
    records = list(read_inputs(str(path)))
    assert [r.name for r in records] == ["ethanol and more", "amine", "bad", "mol_000003"]
    assert records[1].smiles == "CCN"
    table = tmp_path / "x.csv"
    table.write_text("id,smiles,n_conformers\na,CCO,7\n")
    assert [(r.name, r.n_references) for r in read_inputs(str(table))] == [("a", 7)]
    with pytest.raises(InputError, match="no column"):
        list(read_inputs(str(table), smiles_column="nope"))
    with pytest.raises(InputError, match="no such file"):
        read_inputs(str(tmp_path / "missing.smi"))


def test_formats_are_told_apart(tmp_path, shard_folder, geom_folder):
    assert detect_format(shard_folder) == "shards"
    assert detect_format(geom_folder) == "geom-rdkit"
    (tmp_path / "a.sdf.gz").touch()
    assert detect_format(tmp_path / "a.sdf.gz") == "sdf"
    assert set(READERS) == {"geom-rdkit", "mols-pickle", "sdf", "shards", "smiles", "xyz"}


def test_genuine_geom_folder(shared, tmp_path):
    settings = PreprocessSettings(split="scaffold", starts=None, max_confs=1000)
    summary = preprocess([shared / "geom_rdkit_folder_sample" / "rdkit_folder"], tmp_path / "out", settings)
    assert (summary.requested, summary.done) == (10, 10)
    assert summary.conformers == 502
    assert summary.dropped == {"reacted": 1}
