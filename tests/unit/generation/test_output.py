"""Tests of ``conformergen.generation.output``."""

import gzip
import pickle

import pytest
from rdkit import Chem
from support import MIXED, VARIED, input_records

from conformergen.errors import InputError
from conformergen.generation import stream
from conformergen.generation.output import generate_to
from conformergen.generation.settings import GenerateSettings
from conformergen.io.formats import read_ensembles
from conformergen.io.inputs import InputRecord


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(stream, "BLOCK", 2)


class _Killed(BaseException):
    """Stands for a signal: not an Exception."""


THREE = ("C[C@H](N)C(=O)O", "CCO", "F/C=C\\Cl")


@pytest.mark.parametrize("suffix", ["sdf", "sdf.gz", "xyz"])
@pytest.mark.parametrize("after", [1, 3, 5, 7])
def test_interrupted_run_ends_in_the_same_bytes(tmp_path, small_blocks, suffix, after):
    settings = GenerateSettings(n=2, method="etkdg")
    whole = tmp_path / f"whole.{suffix}"
    expected = generate_to(input_records(*MIXED), str(whole), settings)
    assert (expected.requested, expected.done, expected.failed) == (8, 6, 2)

    def dying():
        for record in input_records(*MIXED):
            if record.index == after:
                raise _Killed
            yield record

    out = tmp_path / f"out.{suffix}"
    with pytest.raises(_Killed):
        generate_to(dying(), str(out), settings)
    assert not out.exists()
    # What a kill tears off: bytes beyond the last commit.
    with (tmp_path / f"out.{suffix}.partial").open("ab") as torn:
        torn.write(b"half a record")
    seen = []
    summary = generate_to(input_records(*MIXED), str(out), settings, resume=True, progress=seen.append)
    assert summary == expected
    assert sum(seen) == 8
    assert out.read_bytes() == whole.read_bytes()
    assert (tmp_path / f"out.{suffix}.failures.jsonl").read_text() == whole.with_name(
        f"{whole.name}.failures.jsonl"
    ).read_text()
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith("out")) == [
        out.name,
        f"{out.name}.failures.jsonl",
    ]


def test_resume_refuses_other_settings_inputs_and_formats(tmp_path, small_blocks):
    settings = GenerateSettings(n=1, method="etkdg")

    def dying():
        yield from input_records(*MIXED)[:5]
        raise _Killed

    out = str(tmp_path / "out.sdf")
    with pytest.raises(_Killed):
        generate_to(dying(), out, settings)
    with pytest.raises(InputError, match="settings"):
        generate_to(input_records(*MIXED), out, GenerateSettings(n=2, method="etkdg"), resume=True)
    with pytest.raises(InputError, match="inputs"):
        generate_to(input_records(*MIXED[::-1]), out, settings, resume=True)
    with pytest.raises(InputError, match="sdf"):
        generate_to(input_records(*MIXED), str(tmp_path / "out.h5"), settings, resume=True)
    (tmp_path / "out.sdf.progress").write_text("{")
    with pytest.raises(InputError, match="unreadable"):
        generate_to(input_records(*MIXED), out, settings, resume=True)
    assert generate_to(input_records(*MIXED), out, settings).done == 6  # without --resume: anew
    assert generate_to(input_records(*MIXED), out, settings, resume=True).done == 6  # nothing to resume: from the start


def test_gzip_members_are_one_file(tmp_path, small_blocks):
    generate_to(input_records(*MIXED), str(tmp_path / "a.sdf.gz"), GenerateSettings(n=1, method="etkdg"))
    generate_to(input_records(*MIXED), str(tmp_path / "a.sdf"), GenerateSettings(n=1, method="etkdg"))
    assert gzip.decompress((tmp_path / "a.sdf.gz").read_bytes()) == (tmp_path / "a.sdf").read_bytes()
    generate_to([], str(tmp_path / "none.sdf.gz"), GenerateSettings(n=1, method="etkdg"))
    assert gzip.decompress((tmp_path / "none.sdf.gz").read_bytes()) == b""


def test_same_bytes_for_any_workers_and_blocks(tmp_path, monkeypatch):
    made = {}
    for name, jobs, block in (("a", 1, 64), ("b", 2, 64), ("c", 2, 3)):
        monkeypatch.setattr(stream, "BLOCK", block)
        settings = GenerateSettings(n=2, refine="mmff94s", jobs=jobs)
        generate_to(input_records(*MIXED), str(tmp_path / f"{name}.sdf"), settings)
        made[name] = (tmp_path / f"{name}.sdf").read_bytes()
    assert made["a"] == made["b"] == made["c"]
    generate_to(input_records(*MIXED), str(tmp_path / "d.sdf"), GenerateSettings(n=2, refine="mmff94s", seed=1))
    assert (tmp_path / "d.sdf").read_bytes() != made["a"]


@pytest.mark.parametrize("n", [1, 2, 7])
def test_counts_of_a_run_add_up(tmp_path, n):
    from conformergen.generation.output import generate_to
    from conformergen.generation.settings import GenerateSettings

    texts = [*(VARIED * n), "no molecule", "", "[Na+].[Cl-]"]
    records = [InputRecord(index=i, smiles=s, name=str(i)) for i, s in enumerate(texts)]
    summary = generate_to(records, str(tmp_path / "o.sdf"), GenerateSettings(n=1, method="etkdg"))
    assert summary.requested == len(texts) == summary.done + summary.failed
    assert summary.failed == 3
    assert summary.conformers == summary.done


@pytest.mark.parametrize("suffix", [".sdf", ".sdf.gz", ".xyz", ".h5", ".pkl"])
def test_writers(tmp_path, suffix):
    path = tmp_path / f"out{suffix}"
    settings = GenerateSettings(n=2, method="etkdg", refine="mmff94s")
    generate_to(input_records(*THREE), str(path), settings)
    assert path.exists()
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    if suffix == ".pkl":
        assert [len(v) for v in pickle.loads(path.read_bytes()).values()] == [2, 2, 2]  # noqa: S301  our own file
    if suffix == ".xyz":
        assert path.read_text().splitlines()[0] == "13"
    if suffix in (".sdf", ".sdf.gz", ".h5"):
        assert [len(raw.conformers) for raw in read_ensembles(path)] == [2, 2, 2]


def test_sdf_records(tmp_path):
    path = tmp_path / "out.sdf"
    generate_to(input_records(*THREE), str(path), GenerateSettings(n=2, method="etkdg", refine="mmff94s", seed=4))
    mols = list(Chem.SDMolSupplier(str(path), removeHs=False))
    assert [m.GetProp("_Name") for m in mols] == ["m0", "m0", "m1", "m1", "m2", "m2"]
    assert mols[1].GetProp("conformer") == "1"
    assert mols[0].GetProp("conformergen_smiles") == THREE[0]
    assert (mols[0].GetProp("energy_method"), mols[0].GetProp("seed")) == ("mmff94s", "4")
    weights = [float(m.GetProp("boltzmann_weight")) for m in mols[:2]]
    assert sum(weights) == pytest.approx(1.0, abs=1e-5)
    assert min(float(m.GetProp("energy_kcal")) for m in mols[:2]) == 0.0


def test_failed_run_leaves_no_output(tmp_path, tiny_run):
    path = tmp_path / "out.sdf"

    def broken():
        yield input_records(*THREE)[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate_to(broken(), str(path), GenerateSettings(n=1, method="etkdg"))
    assert list(tmp_path.iterdir()) == []
