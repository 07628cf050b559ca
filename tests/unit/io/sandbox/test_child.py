"""Tests of ``conformergen.io.sandbox.child``."""

import io
import pickle

import pytest
from rdkit import Chem

from conformergen.errors import DataError
from conformergen.io.sandbox.child import load_mols, scan
from conformergen.io.sandbox.process import SandboxReader


def _block():
    mol = Chem.MolFromSmiles("C")
    conformer = Chem.Conformer(1)
    mol.AddConformer(conformer)
    return Chem.MolToMolBlock(mol)


class _Attack:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        import os

        return (os.system, (f"touch {self.target}",))


def _refused(function, *arguments, **options):
    with pytest.raises(pickle.UnpicklingError):
        function(*arguments, **options)


@pytest.mark.parametrize("protocol", range(6))
def test_unpickler_reads_geom_files_of_all_protocols(geom_folder, protocol, tmp_path):
    content = {"conformers": [{"rd_mol": Chem.AddHs(Chem.MolFromMolBlock(_block()), addCoords=True)}]}
    path = tmp_path / "x.pickle"
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    with SandboxReader() as child:
        header, arrays = child.load(path)
    assert header == {"conformers": [{}]}
    assert arrays["sizes"].tolist() == [[5, 4]]


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


def test_scan_has_limits(monkeypatch):
    from conformergen.io.sandbox import child as reader_child

    monkeypatch.setattr(reader_child, "MAX_OPERATIONS", 10)
    _refused(scan, pickle.dumps(list(range(100))))
    monkeypatch.setattr(reader_child, "MAX_BYTES", 10)
    _refused(scan, pickle.dumps("x" * 100))


@pytest.mark.parametrize("content", [1, [1], {1: []}, {"CC": 1}, {"CC": [1]}, {"conformers": [], "x": {1, 2}}])
def test_content_that_is_no_molecules_is_refused(content):
    _refused(load_mols, pickle.dumps(content))
