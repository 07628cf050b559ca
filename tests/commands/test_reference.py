"""Tests of ``conformergen.commands.reference``."""

import pytest
from typer.testing import CliRunner

from conformergen.cli import app
from conformergen.commands import reference as command
from conformergen.commands.reference import FORMATS, UNITS, make_reference
from conformergen.datasets.pairing import with_starts
from conformergen.errors import InputError, MoleculeError
from conformergen.io.formats import read_ensembles
from conformergen.io.inputs import InputRecord
from conformergen.reference.settings import ReferenceSettings
from conformergen.reference.units import ReferenceTask
from conformergen.refinement import xtb
from conformergen.runtime.locks import LOCK, claimed, shared

needs_xtb = pytest.mark.skipif(not xtb.available(), reason="the xtb program is not installed")


BUTANOL = "CCCCO"


def _small(**changes):
    return ReferenceSettings.lean(
        **{"min_starts": 8, "max_starts": 8, "md_runs": 1, "md_ps": 1.0, "max_crude": 6, "max_final": 4, **changes}
    )


@needs_xtb
def test_every_format_reads_back(tmp_path):
    records = [InputRecord(index=0, smiles=BUTANOL, name="butanol/1"), InputRecord(index=1, smiles="CC(C)O", name="b")]
    summary = make_reference(records, tmp_path, _small(), formats=tuple(FORMATS))
    assert summary.molecules == 2
    for name in ("ensembles.sdf.gz", "rdkit_folder", ""):
        read = {e.smiles: e for e in read_ensembles(tmp_path / name)}
        assert len(read) == 2
        assert sum(len(e.conformers) for e in read.values()) == summary.conformers
        weights = next(iter(read.values())).weights
        assert weights is None or sum(weights) == pytest.approx(1.0, abs=1e-4)
    with pytest.raises(InputError, match="format"):
        make_reference(records, tmp_path, _small(), formats=("pdb",))


@needs_xtb
def test_joined_run_packs_what_another_left(tmp_path):
    """A unit that another run has claimed is passed over; whoever is alone at the end makes it and packs."""
    records = [InputRecord(index=i, smiles=s, name=str(i)) for i, s in enumerate(("CCO", "C(", "CCN"))]
    settings = _small(engine="xtb", md_runs=0, min_starts=3, max_starts=3)
    failures = []
    with shared(tmp_path / LOCK):
        first = ReferenceTask(record=records[0], folder=str(tmp_path / UNITS), settings=settings, seed=0)
        (tmp_path / UNITS).mkdir()
        with claimed(first.path):
            assert make_reference(records, tmp_path, settings, join=True, on_failure=failures.append) is None
        assert not first.path.exists()
        assert len(list((tmp_path / UNITS).glob("*.npz"))) == 1
    assert [f.reason for f in failures] == ["parse"]
    summary = make_reference(records, tmp_path, settings, join=True)
    assert (summary.requested, summary.molecules, len(summary.failures)) == (3, 2, 1)
    assert not list(tmp_path.rglob("*.claim"))


@needs_xtb
def test_one_without_starts_fails_and_the_others_are_packed(tmp_path, monkeypatch):
    def seeded(conformers, settings, *, seed):
        if conformers.molecule.smiles == "CCN":
            raise MoleculeError("stereo", "no embedded geometry has the requested stereo")
        return with_starts(conformers, settings, seed=seed)

    monkeypatch.setattr(command, "with_starts", seeded)
    records = [InputRecord(index=i, smiles=s, name=str(i)) for i, s in enumerate(("CCO", "CCN"))]
    failures = []
    settings = _small(engine="xtb", md_runs=0, min_starts=3, max_starts=3)
    summary = make_reference(records, tmp_path, settings, on_failure=failures.append)
    assert (summary.requested, summary.molecules, len(summary.failures)) == (2, 1, 1)
    assert [(f.reason, f.index) for f in failures] == [("stereo", 1)]
    assert [e.smiles for e in read_ensembles(tmp_path)] == ["CCO"]


def test_impossible_settings_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(xtb, "available", lambda: False)
    with pytest.raises(InputError, match="needs the xtb program"):
        make_reference([], tmp_path, _small(theory="gfn-ff", engine="tblite"))
    out = tmp_path / "out"
    done = CliRunner().invoke(app, ["reference", str(tmp_path / "no.smi"), "-o", str(out), "--lean", "--thorough"])
    assert (done.exit_code, out.exists()) == (2, False)
    assert "exclude each other" in done.output
