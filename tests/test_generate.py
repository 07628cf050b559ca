"""Generation as a user meets it: files that can be killed, fallbacks, constraints, windows."""

import gzip
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem import rdMolTransforms
from support import input_records, run_pipeline
from typer.testing import CliRunner

import conformergen
from conformergen.chem import embed, heavy_atoms, mol_with_conformers, molecule_from_smiles, symmetry_group
from conformergen.cli import app
from conformergen.errors import InputError, MoleculeError
from conformergen.generation import stream
from conformergen.generation.output import generate_to
from conformergen.generation.settings import GenerateSettings
from conformergen.geometry.branch_bound import group_rmsd_matrix
from conformergen.records import Fallback
from conformergen.torsion.constraints import Constraints, constrained_conformers

SMILES = ("CCCCO", "C[C@H](N)C(=O)O", "no smiles", "OCc1ccccc1", "F/C=C/CO", "CC(C)CCN", "[Na+].[Cl-]", "CCSCC")


def _records(texts=SMILES):
    return input_records(*texts)


def _run(settings, texts=SMILES):
    return run_pipeline(settings, input_records(*texts))


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(stream, "BLOCK", 2)


# --- files that grow ---------------------------------------------------------------------------------------


class _Killed(BaseException):
    """Stands for a signal: not an Exception."""


@pytest.mark.parametrize("suffix", ["sdf", "sdf.gz", "xyz"])
@pytest.mark.parametrize("after", [1, 3, 5, 7])
def test_interrupted_run_ends_in_the_same_bytes(tmp_path, small_blocks, suffix, after):
    settings = GenerateSettings(n=2, method="etkdg")
    whole = tmp_path / f"whole.{suffix}"
    expected = generate_to(_records(), str(whole), settings)
    assert (expected.requested, expected.done, expected.failed) == (8, 6, 2)

    def dying():
        for record in _records():
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
    summary = generate_to(_records(), str(out), settings, resume=True, progress=seen.append)
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


def test_killed_process_resumes_to_the_same_bytes(tmp_path):
    """SIGKILL at a moment of the machine's choosing."""
    source = tmp_path / "in.smi"
    source.write_text("".join(f"{'C' * (3 + i % 9)}O m{i}\n" for i in range(400)))
    command = [sys.executable, "-m", "conformergen", "generate", str(source), "-n", "3", "--method", "etkdg+mmff94s"]
    subprocess.run([*command, "-o", str(tmp_path / "whole.sdf")], check=True, capture_output=True)
    process = subprocess.Popen([*command, "-o", str(tmp_path / "out.sdf")], stderr=subprocess.DEVNULL)
    while process.poll() is None and not (tmp_path / "out.sdf.progress").exists():
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "out.sdf").exists()
    subprocess.run([*command, "-o", str(tmp_path / "out.sdf"), "--resume"], check=True, capture_output=True)
    assert (tmp_path / "out.sdf").read_bytes() == (tmp_path / "whole.sdf").read_bytes()


def test_resume_refuses_other_settings_inputs_and_formats(tmp_path, small_blocks):
    settings = GenerateSettings(n=1, method="etkdg")

    def dying():
        yield from _records()[:5]
        raise _Killed

    out = str(tmp_path / "out.sdf")
    with pytest.raises(_Killed):
        generate_to(dying(), out, settings)
    with pytest.raises(InputError, match="settings"):
        generate_to(_records(), out, GenerateSettings(n=2, method="etkdg"), resume=True)
    with pytest.raises(InputError, match="inputs"):
        generate_to(_records(SMILES[::-1]), out, settings, resume=True)
    with pytest.raises(InputError, match="sdf"):
        generate_to(_records(), str(tmp_path / "out.h5"), settings, resume=True)
    (tmp_path / "out.sdf.progress").write_text("{")
    with pytest.raises(InputError, match="unreadable"):
        generate_to(_records(), out, settings, resume=True)
    assert generate_to(_records(), out, settings).done == 6  # without --resume: anew
    assert generate_to(_records(), out, settings, resume=True).done == 6  # nothing to resume: from the start


def test_gzip_members_are_one_file(tmp_path, small_blocks):
    generate_to(_records(), str(tmp_path / "a.sdf.gz"), GenerateSettings(n=1, method="etkdg"))
    generate_to(_records(), str(tmp_path / "a.sdf"), GenerateSettings(n=1, method="etkdg"))
    assert gzip.decompress((tmp_path / "a.sdf.gz").read_bytes()) == (tmp_path / "a.sdf").read_bytes()
    generate_to([], str(tmp_path / "none.sdf.gz"), GenerateSettings(n=1, method="etkdg"))
    assert gzip.decompress((tmp_path / "none.sdf.gz").read_bytes()) == b""


def test_same_bytes_for_any_workers_and_blocks(tmp_path, monkeypatch):
    made = {}
    for name, jobs, block in (("a", 1, 64), ("b", 2, 64), ("c", 2, 3)):
        monkeypatch.setattr(stream, "BLOCK", block)
        settings = GenerateSettings(n=2, refine="mmff94s", jobs=jobs)
        generate_to(_records(), str(tmp_path / f"{name}.sdf"), settings)
        made[name] = (tmp_path / f"{name}.sdf").read_bytes()
    assert made["a"] == made["b"] == made["c"]
    generate_to(_records(), str(tmp_path / "d.sdf"), GenerateSettings(n=2, refine="mmff94s", seed=1))
    assert (tmp_path / "d.sdf").read_bytes() != made["a"]


# --- fallbacks --------------------------------------------------------------------------------------------


def test_fallbacks_go_only_as_far_as_they_must(monkeypatch):
    """Each fallback is tried when those before it give nothing, and is recorded."""
    from conformergen.chem import embedding

    molecule = molecule_from_smiles("CCO")
    real = embedding._embed_once
    for refused, wanted in ((set(), 0), ({0}, 3), ({0, 3}, 4)):

        def refusing(mol, species, n, seed, attempt, settings, *, fallback, refused=refused):
            positions = real(mol, species, n, seed, attempt, settings, fallback=fallback)
            return positions[:0] if fallback in refused else positions

        monkeypatch.setattr(embedding, "_embed_once", refusing)
        seen = set()
        assert len(embed(molecule, 3, seed=0, on_fallback=seen.add)) == 3
        assert seen == {wanted}
    monkeypatch.setattr(embedding, "_embed_once", lambda *a, **k: np.zeros((0, 9, 3), dtype=np.float32))
    with pytest.raises(MoleculeError) as error:
        embed(molecule, 3, seed=0)
    assert error.value.reason == "embed"


def test_fallbacks_reach_the_file_and_the_molecule(tmp_path, monkeypatch):
    from conformergen.generation import rounds

    # The network's first draw of every candidate is refused, and every draw of one.
    calls = []

    def picky(positions, graph):
        calls.append(1)
        return np.array([len(calls) > 1 and i > 0 for i in range(len(positions))])

    monkeypatch.setattr(rounds, "is_valid", picky)
    mol = conformergen.generate("CCCCO", n=24, steps=1)
    found = {c.GetProp("fallback") for c in mol.GetConformers()}
    assert found == {"redrawn", "start"}
    monkeypatch.undo()
    done = CliRunner().invoke(app, ["generate", "CCCCO", "-n", "2", "-o", str(tmp_path / "a.sdf")])
    assert done.exit_code == 0, done.output
    assert all(m.GetProp("fallback") == Fallback.REGULAR.label for m in Chem.SDMolSupplier(str(tmp_path / "a.sdf")))


#: What users feed in: single atoms, elements without parameters, charges, radicals, isotopes, explicit hydrogens,
#: rings, allenes, metals, salts.
ODD = (
    *(
        "C",
        "[Na+]",
        "[H][H]",
        "[He]",
        "O",
        "[C-]#[O+]",
        "OB(O)c1ccccc1",
        "C[Si](C)(C)CCO",
        "C[Se]CCO",
        "F[Si@](Cl)(Br)C",
    ),
    *("CC[NH+](C)CC(=O)[O-]", "[O]N1C(C)(C)CCCC1(C)C", "C[CH]C", "[2H]C([2H])([2H])O", "[H]C([H])([H])C"),
    *("CCOP(=O)(C)SCC", "C[S@](=O)CC", "C1CCCCCCCCCCCCC1", "C12C3C4C1C5C2C3C45", "CC=C=CC", "C/C=N/O", "CCN=NC"),
    *("[Pt](Cl)(Cl)(N)N", "OC1=CC=CC=C1[Hg]Cl", "CC(=O)[O-].[Na+]", "NCC(=O)O.NCC(=O)O.Cl", "S(F)(F)(F)(F)(F)c1ccccc1"),
)
#: Reason codes of what nobody can make.
IMPOSSIBLE = {
    "*CC": "domain",
    "[NH4+].[Cl-]": "domain",
    "C1[C@H]2CC[C@H]1C2": "embed",
    "c1cccc1": "sanitise",
    "C1CC": "parse",
    "": "parse",
    "C" * 4000: "too-large",
}


def test_odd_molecules_get_conformers_and_impossible_ones_a_reason():
    failures = []
    texts = (*ODD, *IMPOSSIBLE)
    made, summary = run_pipeline(GenerateSettings(n=2), _records(texts), on_failure=failures.append)
    assert (summary.requested, summary.done, summary.failed) == (len(texts), len(ODD), len(IMPOSSIBLE))
    assert {texts[f.index]: f.reason for f in failures} == IMPOSSIBLE
    assert all(len(c) == 2 for c in made)


# --- counts, windows, refinement ---------------------------------------------------------------------------


def test_automatic_count_follows_flexibility():
    settings = GenerateSettings(n=0)
    assert [settings.count(None, r) for r in (0, 7, 8, 12, 13)] == [50, 50, 200, 200, 300]
    assert GenerateSettings(n=0, per_reference=2).count(4, 3) == 8
    made, _ = _run(GenerateSettings(n=0, method="etkdg"), ("CCO",))
    assert len(made[0]) == 50


@pytest.mark.parametrize("refine", ["mmff94s", "uff"])
def test_refined_conformers_are_ranked_windowed_and_pruned(refine):
    every, _ = _run(GenerateSettings(n=20, method="etkdg", refine=refine), ("CCCCCO",))
    energies = every[0].energies
    assert np.all(np.diff(energies) >= 0)
    assert energies[0] == 0.0
    assert every[0].weights.sum() == pytest.approx(1.0)
    few, summary = _run(GenerateSettings(n=20, method="etkdg", refine=refine, ewin=1.0, rms=0.3), ("CCCCCO",))
    assert few[0].energies.max() <= 1.0
    assert 1 <= len(few[0]) < len(every[0])
    assert summary.short == 1
    mol = mol_with_conformers(few[0].molecule, few[0].positions)
    positions = few[0].positions[:, heavy_atoms(mol)]
    rmsd = group_rmsd_matrix(positions, positions, symmetry_group(mol)) + 9 * np.eye(len(positions))
    assert rmsd.min() >= 0.3
    for bad in ({"ewin": 0.0}, {"rms": -1.0}, {"n": -1}):
        with pytest.raises(InputError):
            GenerateSettings(**bad)


# --- constraints -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def core(tmp_path_factory):
    """A phenyl ring with its first side-chain atom, somewhere in space, as SDF."""
    molecule = molecule_from_smiles("Oc1ccccc1")
    mol = Chem.RemoveHs(mol_with_conformers(molecule, embed(molecule, 1, seed=3) + 20.0))
    path = tmp_path_factory.mktemp("core") / "core.sdf"
    with Chem.SDWriter(str(path)) as writer:
        writer.write(mol)
    return path, mol


def test_core_stays_where_the_template_has_it(core, tmp_path):
    path, template = core
    out = tmp_path / "a.sdf"
    command = [
        "generate",
        "CC(C)NCC(O)COc1ccc(CC(N)=O)cc1",
        "-n",
        "6",
        "--method",
        "etkdg+mmff94s",
        "--core",
        str(path),
    ]
    done = CliRunner().invoke(app, [*command, "-o", str(out)])
    assert done.exit_code == 0, done.output
    places = template.GetConformer().GetPositions()
    mols = list(Chem.SDMolSupplier(str(out)))
    assert len(mols) == 6
    for mol in mols:
        match = mol.GetSubstructMatch(template)
        np.testing.assert_allclose(mol.GetConformer().GetPositions()[list(match)], places, atol=1e-3)
    energies = [float(m.GetProp("energy_kcal")) for m in mols]
    assert energies == sorted(energies)
    for wrong in (["--method", "model"], ["--refine", "mmff94s"]):
        assert CliRunner().invoke(app, [*command, *wrong, "-o", str(out)]).exit_code == 2
    failed = CliRunner().invoke(app, ["generate", "CCCC", *command[2:], "-o", str(tmp_path / "b.sdf")])
    assert failed.exit_code == 1
    assert json.loads((tmp_path / "b.sdf.failures.jsonl").read_text())["reason"] == "domain"


def test_torsions_stay_at_their_angle():
    constraints = Constraints(torsions=(("[CH3:1][CH2:2][CH2:3][O:4]", 60.0),))
    molecule = molecule_from_smiles("CCCOCCCC")
    minima = constrained_conformers(molecule, 5, seed=0, constraints=constraints)
    mol = mol_with_conformers(molecule, minima.positions.astype(np.float32))
    assert mol.GetNumConformers() > 1
    quartet = mol.GetSubstructMatch(Chem.MolFromSmarts("[CH3][CH2][CH2]O"))
    for conformer in mol.GetConformers():
        assert rdMolTransforms.GetDihedralDeg(conformer, *quartet) == pytest.approx(60.0, abs=2.0)
    assert np.all(np.diff(minima.energies) >= 0)
    with pytest.raises(MoleculeError) as error:
        constrained_conformers(molecule_from_smiles("CCO"), 1, seed=0, constraints=constraints)
    assert error.value.reason == "domain"
    with pytest.raises(InputError, match=":1"):
        Constraints(torsions=(("CCCC", 60.0),))
    with pytest.raises(InputError, match="3D"):
        Constraints(core=Chem.MolToMolBlock(Chem.MolFromSmiles("CCO")))
    assert CliRunner().invoke(app, ["generate", "CCO", "--torsion", "CCCC"]).exit_code == 2


# --- Python ------------------------------------------------------------------------------------------------


def test_transformer_keeps_order_and_names_failures():
    generator = conformergen.ConformerGenerator(n=2, method="etkdg").fit()
    mols = generator.transform(["CCO", "no smiles", Chem.MolFromSmiles("CCN")])
    assert [m and m.GetNumConformers() for m in mols] == [2, None, 2]
    assert [(f.index, f.reason) for f in generator.failures_] == [(1, "sanitise")]
    with pytest.raises(MoleculeError) as error:
        conformergen.generate("C1CC")
    assert error.value.reason == "parse"
    with pytest.raises(InputError):
        conformergen.ConformerGenerator(method="magic")


def test_environment_is_left_alone():
    before = dict(os.environ)
    conformergen.generate("CCO", n=1, method="etkdg")
    assert dict(os.environ) == before


# --- the viewer --------------------------------------------------------------------------------------------


def test_viewer_page_is_self_contained_and_escapes_names(tmp_path):
    source, page = tmp_path / "a.sdf", tmp_path / "a.html"
    (tmp_path / "in.smi").write_text("CCCCO </script><b>x\nC[C@H](N)C(=O)O two\n")
    for command in (
        [
            "generate",
            str(tmp_path / "in.smi"),
            "-n",
            "3",
            "--method",
            "etkdg",
            "--refine",
            "mmff94s",
            "-o",
            str(source),
        ],
        ["view", str(source), "-o", str(page)],
    ):
        done = CliRunner().invoke(app, command)
        assert done.exit_code == 0, done.output
    text = page.read_text()
    assert "<b>x" not in text
    assert 'src="http' not in text
    data = json.loads(text.split("const molecules = ")[1].split(";\n")[0])
    assert [len(m["blocks"]) for m in data] == [3, 3]
    assert len(data[0]["energies"]) == 3
    assert len(data[0]["torsions"][0]) == len(data[0]["torsion_names"]) > 0
    assert CliRunner().invoke(app, ["view", str(tmp_path / "none.sdf"), "-o", str(page)]).exit_code == 2
    mol = conformergen.generate("CCO", n=2)
    assert "iframe" in conformergen.view(mol)._repr_html_()
    with pytest.raises(InputError, match="no conformers"):
        conformergen.view(Chem.MolFromSmiles("CCO"))


def test_failures_that_are_allowed_are_no_error(tmp_path):
    (tmp_path / "in.smi").write_text("CCO\nC(\n")
    command = ["generate", str(tmp_path / "in.smi"), "-n", "1", "--method", "etkdg", "-o", str(tmp_path / "o.sdf")]
    assert CliRunner().invoke(app, command).exit_code == 1
    assert CliRunner().invoke(app, [*command, "--max-failures", "1"]).exit_code == 0
    assert CliRunner().invoke(app, [*command, "--max-failures", "-1"]).exit_code == 2
