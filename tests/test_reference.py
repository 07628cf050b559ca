"""Reference ensembles with both engines, their formats, and the search as a generator."""

import numpy as np
import pytest
from support import run_pipeline
from typer.testing import CliRunner

from conformergen.chem import molecule_from_smiles
from conformergen.cli import app
from conformergen.commands import reference as command
from conformergen.commands.reference import FORMATS, UNITS, make_reference
from conformergen.datasets.pairing import with_starts
from conformergen.errors import InputError, MoleculeError
from conformergen.generation.settings import GenerateSettings
from conformergen.geometry.automorphism import factorise
from conformergen.geometry.duplicates import farthest_first
from conformergen.io.formats import read_ensembles
from conformergen.io.inputs import InputRecord
from conformergen.reference.search import reference_ensemble
from conformergen.reference.settings import ReferenceSettings
from conformergen.reference.units import ReferenceTask
from conformergen.refinement import xtb
from conformergen.refinement.engines import ENGINES, TbliteLibrary, XtbProgram, choose_engine
from conformergen.runtime.locks import LOCK, claimed, shared

needs_xtb = pytest.mark.skipif(not xtb.available(), reason="the xtb program is not installed")
BUTANOL = "CCCCO"


def _small(**changes):
    return ReferenceSettings.lean(
        **{"min_starts": 8, "max_starts": 8, "md_runs": 1, "md_ps": 1.0, "max_crude": 6, "max_final": 4, **changes}
    )


@needs_xtb
def test_engines_agree_on_energies_and_minima():
    molecule = molecule_from_smiles("C[NH2+]CCO")
    from conformergen.chem import embed

    start = embed(molecule, 1, seed=1)[0].astype(np.float64)
    program, library = XtbProgram(molecule), TbliteLibrary(molecule)
    assert program.charge == 1
    assert library.energy(start) == pytest.approx(program.energy(start), abs=0.01)
    (p, e), (q, f) = program.optimise(start), library.optimise(start)
    assert e == pytest.approx(f, abs=0.1)
    assert program.energy(start) > e
    assert library.snapshots(start, xtb.Metadynamics(k_push=0.001, alpha=1.0)).shape == (0, *start.shape)
    assert p.shape == q.shape == start.shape


def test_tblite_alone_makes_an_ensemble():
    result = reference_ensemble(molecule_from_smiles("CCCO"), _small(engine="tblite"), seed=0)
    energies = result.conformers.energies
    assert len(energies) >= 2
    assert np.all(np.diff(energies) >= 0)
    assert energies[0] == 0.0
    assert "mmff94s" in result.stats.counts
    assert result.conformers.weights.sum() == pytest.approx(1.0)


def test_missing_engines_are_named(monkeypatch):
    monkeypatch.setattr(xtb, "available", lambda: False)
    assert choose_engine() == "tblite"
    with pytest.raises(InputError, match="apt-get install xtb"):
        choose_engine("xtb")
    with pytest.raises(InputError, match="not one of"):
        choose_engine("orca")
    assert set(ENGINES) == {"xtb", "tblite"}


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
def test_search_is_a_generator():
    records = [InputRecord(index=0, smiles=BUTANOL, name="butanol")]
    sets = {}
    for select in ("lowest", "diverse"):
        settings = GenerateSettings(n=5, method="gfnff", select=select)
        [conformers], summary = run_pipeline(settings, records)
        assert summary.done == 1
        assert conformers.energy_method == "gfn-ff"
        assert len(conformers) == 5
        sets[select] = conformers
    assert np.all(np.diff(sets["lowest"].energies) >= 0)
    assert sets["lowest"].energies[-1] <= sets["diverse"].energies.max()


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


def test_depths_of_the_search_are_in_order():
    cheap, lean, full, deep = (
        ReferenceSettings.lean(theory="gfn-ff"),
        ReferenceSettings.lean(),
        ReferenceSettings(theory="gfn-ff"),
        ReferenceSettings.thorough(),
    )
    assert cheap.max_starts < lean.max_starts < full.max_starts
    assert (cheap.max_final, lean.max_final) == (50, 30)
    assert deep.max_final > full.max_final
    assert deep.max_crude > full.max_crude
    assert (cheap.theory, lean.theory) == ("gfn-ff", "gfn2-xtb")


def test_farthest_first_spreads():
    points = np.zeros((4, 2, 3))
    points[:, 1, 0] = [1.0, 1.1, 5.0, 3.0]
    picked = farthest_first(points, factorise([0, 1], []), 3)
    assert picked.tolist() == [0, 2, 3]
    assert farthest_first(points, factorise([0, 1], []), 9).shape == (4,)
