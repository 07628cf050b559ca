"""Reference ensembles with both engines, their formats, and the search as a generator."""

import subprocess
import sys
import time

import numpy as np
import pytest

from conformergen.chem import molecule_from_smiles
from conformergen.datasets.inputs import InputRecord
from conformergen.datasets.shards import read_manifest
from conformergen.errors import InputError
from conformergen.geometry.automorphism import factorise
from conformergen.geometry.duplicates import farthest_first
from conformergen.refinement import xtb
from conformergen.refinement.engines import ENGINES, TbliteLibrary, XtbProgram, choose_engine
from conformergen.workflows.evaluate import read_ensembles
from conformergen.workflows.generate import GenerateSettings, generate_stream
from conformergen.workflows.make_reference import FORMATS, make_reference
from conformergen.workflows.reference import ReferenceSettings, reference_ensemble

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
    assert "mmff94s" in result.counts
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
    assert summary.done == 2
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
        (conformers, _), summary = list(generate_stream(records, settings))
        assert summary.done == 1
        assert conformers.energy_method == "gfn-ff"
        assert len(conformers) == 5
        sets[select] = conformers
    assert np.all(np.diff(sets["lowest"].energies) >= 0)
    assert sets["lowest"].energies[-1] <= sets["diverse"].energies.max()


@needs_xtb
@pytest.mark.slow
def test_killed_run_resumes_to_the_same_set(tmp_path):
    """kill -9 at a few moments, then the same command: nothing lost, nothing doubled."""
    source = tmp_path / "list.smi"
    source.write_text(
        "".join(f"{s} {i}\n" for i, s in enumerate((BUTANOL, "CC(C)O", "CCOC", "CCNC", "CCCF", "CC(=O)N")))
    )
    command = [sys.executable, "-m", "conformergen", "reference", str(source), "--lean", "--seed", "3", "-o"]
    subprocess.run([*command, str(tmp_path / "straight")], check=True, capture_output=True)
    for seconds in (6.0, 9.0, 5.0):
        process = subprocess.Popen(
            [*command, str(tmp_path / "killed")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(seconds)
        process.kill()
        process.wait()
    subprocess.run([*command, str(tmp_path / "killed"), "--resume"], check=True, capture_output=True)
    straight, killed = (read_manifest(tmp_path / name)["shards"][0] for name in ("straight", "killed"))
    assert straight["content_sha256"] == killed["content_sha256"]
    assert straight["molecules"] == 6


def test_farthest_first_spreads():
    points = np.zeros((4, 2, 3))
    points[:, 1, 0] = [1.0, 1.1, 5.0, 3.0]
    picked = farthest_first(points, factorise([0, 1], []), 3)
    assert picked.tolist() == [0, 2, 3]
    assert farthest_first(points, factorise([0, 1], []), 9).shape == (4,)
