"""Train, generate, evaluate and their promises, on a very small network."""

import csv
import importlib
import json
import os
import pickle
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from rdkit import Chem
from rdkit.Chem import rdMolAlign
from safetensors.torch import load_file
from support import input_records, run_pipeline

import conformergen
from conformergen.checkpoint.folder import resolve
from conformergen.checkpoint.model import load_model
from conformergen.chem import embed, mol_with_conformers, molecule_from_smiles
from conformergen.commands.evaluate import evaluate
from conformergen.commands.export import export
from conformergen.commands.train import train
from conformergen.config import load_config, parse_override
from conformergen.diffusion import PATHS, PRIORS
from conformergen.errors import DataError, DivergedError, InputError, MoleculeError
from conformergen.evaluation.metrics import METRICS
from conformergen.generation.output import generate_to
from conformergen.generation.settings import GenerateSettings
from conformergen.io.inputs import InputRecord
from conformergen.nn import BACKBONES, make_backbone
from conformergen.refinement import REFINERS, xtb
from conformergen.training.logs import METRICS as METRICS_FILE

SMILES = ("C[C@H](N)C(=O)O", "CCO", "F/C=C\\Cl")


def _positions(settings, texts=SMILES):
    made, summary = run_pipeline(settings, input_records(*texts))
    return [conformers.positions for conformers in made], summary


# --- configuration -----------------------------------------------------------------------------------------


def test_configuration_layers_and_unknown_keys(tmp_path):
    toml = tmp_path / "run.toml"
    toml.write_text("[training]\nlearning_rate = 1\n[network.relaxation]\nrank = 3\n")
    config = load_config("tiny", toml, ["training.steps=7", "network.relaxation.mode=none"])
    assert (config.training.learning_rate, config.training.steps) == (1.0, 7)
    assert (config.network.relaxation.rank, config.network.relaxation.mode) == (3, "none")
    for bad in ("training.stepz=7", "training.steps=many", "network=3", "training.steps=0", "nonsense"):
        with pytest.raises(InputError):
            load_config("tiny", None, [bad])
    assert parse_override("a.b=x") == {"a": {"b": "x"}}


# --- training ----------------------------------------------------------------------------------------------


def test_training_lowers_the_loss_and_logs_each_step_once(tiny_run):
    with (tiny_run / METRICS_FILE).open() as file:
        rows = list(csv.DictReader(file))
    assert [int(r["step"]) for r in rows] == [4, 6, 8, 12]
    assert rows[-1]["val_loss"]


def test_network_learns_to_undo_a_distortion(ensembles):
    """Starts are the references, 10 % too large: what a step must remove is the same everywhere."""
    from dataclasses import replace

    from conformergen.datasets.loader import TrainingSet
    from conformergen.training.trainer import Trainer

    config = load_config("tiny", None, ["training.steps=80", "training.warmup=5", "training.learning_rate=3e-3"])
    torch.manual_seed(0)
    trainer = Trainer(make_backbone(config.network), config.diffusion, config.training, relaxation="recm", device="cpu")
    distorted = [replace(s, starts=s.positions * np.float32(1.1)) for s in ensembles]
    data = TrainingSet(distorted, pair_budget=10_000, confs_per_epoch=4)
    batches = data.stream(0, 0, 0)
    losses = [float(trainer.train_step(data, batches)[0]) for _ in range(80)]
    assert np.mean(losses[-10:]) < 0.6 * np.mean(losses[:10])


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_prior_path_and_backbone_trains_and_samples(ensembles, backbone, prior, path):
    from conformergen.datasets.loader import TrainingSet
    from conformergen.sampling import SamplingJob, SamplingSettings, sample_batch
    from conformergen.training.trainer import Trainer

    overrides = [f"network.backbone={backbone}", f"diffusion.prior={prior}", f"diffusion.path={path}"]
    overrides += ["network.channels=8", "network.odd_channels=4", "diffusion.sigma=1.0"]
    config = load_config("tiny", None, overrides)
    trainer = Trainer(make_backbone(config.network), config.diffusion, config.training, relaxation="recm", device="cpu")
    data = TrainingSet(ensembles, pair_budget=4000, confs_per_epoch=1)
    loss, norm = trainer.train_step(data, data.stream(0, 0, 0))
    assert torch.isfinite(loss)
    assert float(norm) > 0
    jobs = [SamplingJob(molecule=s.molecule, conformer=0, start_positions=s.positions[0]) for s in ensembles]
    network = trainer.network.eval()
    for out, s in zip(
        sample_batch(network, config.diffusion, jobs, SamplingSettings(steps=2), seed=0), ensembles, strict=True
    ):
        assert out.shape == s.positions[0].shape
        assert np.isfinite(out).all()


@pytest.mark.slow
def test_killed_process_resumes_bit_exactly(shard_folder, tmp_path):
    """200 steps, kill -9 at a random moment, --resume: the same weights as an uninterrupted run."""
    command = [sys.executable, "-m", "conformergen", "train", "--data", str(shard_folder), "--preset", "tiny"]
    command += ["--steps", "200", "--set", "training.checkpoint_every=20", "--device", "cpu", "--resume", "-o"]
    subprocess.run([*command, str(tmp_path / "straight")], check=True)
    process = subprocess.Popen([*command, str(tmp_path / "killed")])
    while not (tmp_path / "killed" / "ckpt-00000060").exists():
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    subprocess.run([*command, str(tmp_path / "killed")], check=True)
    first, second = (load_file(tmp_path / n / "ckpt-00000200" / "state.safetensors") for n in ("straight", "killed"))
    assert all(torch.equal(first[k], second[k]) for k in first)


def test_damaged_checkpoint_is_skipped_with_a_warning(shard_folder, tiny_config, tiny_run, tmp_path):
    import shutil

    out = tmp_path / "run"
    shutil.copytree(tiny_run, out)
    (out / "ckpt-00000012" / "state.safetensors").write_bytes(b"junk")
    warnings = []
    train([shard_folder], out, tiny_config, device="cpu", resume=True, warn=warnings.append)
    assert "SHA-256" in warnings[0]
    with pytest.raises(InputError, match="--resume"):
        train([shard_folder], out, tiny_config, device="cpu")
    other = load_config("tiny", None, ["training.steps=99"])
    with pytest.raises(DataError, match="other settings"):
        train([shard_folder], out, other, device="cpu", resume=True)


@pytest.mark.parametrize("times", [1, 2])
def test_training_goes_back_once_after_a_collapse(shard_folder, tmp_path, monkeypatch, times):
    """F20: non-finite losses from one step on; a checkpoint is never overwritten by what they leave."""
    from conformergen.training.trainer import Trainer

    size = ["steps=24", "warmup=2", "validate_every=12", "checkpoint_every=4", "log_every=1", "pair_budget=4000"]
    config = load_config("tiny", None, [f"training.{s}" for s in size])
    sound, seen = Trainer.loss, []

    def loss(self, network, noised):
        values = sound(self, network, noised)
        if network.training and self.step >= 10 and len(seen) < 6 * times:
            seen.append(self.step)
            return values * float("nan")
        return values

    monkeypatch.setattr(Trainer, "loss", loss)
    warnings = []
    if times == 1:
        assert train([shard_folder], tmp_path, config, device="cpu", warn=warnings.append).finished
        assert seen == [10, 11, 12, 13, 14, 15]
        assert "step 12 at half the learning rate" in warnings[0]
    else:
        with pytest.raises(DivergedError, match="training molecules"):
            train([shard_folder], tmp_path, config, device="cpu", warn=warnings.append)
    with (tmp_path / METRICS_FILE).open() as file:
        steps = [int(row["step"]) for row in csv.DictReader(file)]
    assert steps == sorted(set(steps))
    for folder in tmp_path.glob("ckpt-*"):
        assert all(torch.isfinite(v).all() for v in load_file(folder / "model.safetensors").values())


def test_weights_that_are_no_numbers_are_not_saved(shard_folder, tiny_config, tmp_path, monkeypatch):
    from conformergen.training.trainer import Trainer

    monkeypatch.setattr(Trainer, "is_finite", lambda self: False)
    with pytest.raises(DivergedError, match="step 4"):
        train([shard_folder], tmp_path, tiny_config, device="cpu")
    assert not list(tmp_path.glob("ckpt-*"))


def test_exact_export_is_the_model_at_beta_zero(tiny_run, tmp_path, ensembles):
    from conformergen.datasets.collate import collate_graphs, molecule_tables, pad_positions

    summary = export(str(tiny_run), tmp_path / "exact", exact=True)
    assert summary.parameters_exported < summary.parameters_trained
    relaxed, exact = load_model(tiny_run).network, load_model(tmp_path / "exact").network
    for branch in relaxed.branches():
        branch.beta.zero_()
    graph = collate_graphs([molecule_tables(s.molecule) for s in ensembles])
    x = pad_positions([s.positions[0] for s in ensembles], graph.mask.shape[1])
    assert torch.equal(relaxed(graph, x, torch.zeros(3)), exact(graph, x, torch.zeros(3)))
    assert exact.branches() == []


def test_checkpoints_are_found_and_verified(tiny_run, tmp_path):
    import shutil

    assert resolve(str(tiny_run)).name == "best"
    with pytest.raises(InputError):
        resolve("no-such-model")
    shutil.copytree(tiny_run / "best", tmp_path / "bad")
    weights = bytearray((tmp_path / "bad" / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (tmp_path / "bad" / "model.safetensors").write_bytes(weights)
    with pytest.raises(DataError):
        load_model(tmp_path / "bad")


# --- generation --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["model", "etkdg", "etkdg+mmff94s"])
def test_generation_counts_and_stereo(tiny_run, method):
    settings = GenerateSettings(n=3, checkpoint=str(tiny_run), method=method)
    texts = (*SMILES, "not a smiles", "[Na+].[Cl-]", "CC(N)C(=O)O")
    failures = []
    made, summary = run_pipeline(settings, input_records(*texts), on_failure=failures.append)
    assert (summary.requested, summary.done, summary.failed) == (6, 4, 2)
    assert [f.reason for f in failures] == ["parse", "domain"]
    assert summary.conformers == 12
    for conformers in made:
        mol = mol_with_conformers(conformers.molecule, conformers.positions)
        for conformer in mol.GetConformers():
            copy = Chem.Mol(mol, confId=conformer.GetId())
            Chem.RemoveStereochemistry(copy)
            Chem.AssignStereochemistryFrom3D(copy)
            assert Chem.MolToSmiles(Chem.RemoveHs(copy)) == conformers.molecule.smiles


def test_salts_give_their_organic_fragment():
    salt = InputRecord(index=0, smiles="C[NH2+]CCc1ccccc1.[Cl-]", name="salt")
    [conformers], summary = run_pipeline(GenerateSettings(n=1, method="etkdg"), [salt])
    assert summary.done == 1
    assert conformers.molecule.smiles == "C[NH2+]CCc1ccccc1"
    assert conformers.molecule.source_smiles == salt.smiles
    failures = []
    run_pipeline(GenerateSettings(n=1, method="etkdg", fragments="error"), [salt], on_failure=failures.append)
    assert [f.reason for f in failures] == ["domain"]


def test_output_does_not_depend_on_order_or_company(tiny_run):
    settings = GenerateSettings(n=2, checkpoint=str(tiny_run))
    together, _ = _positions(settings)
    alone = [_positions(settings, (s,))[0][0] for s in SMILES]
    backwards, _ = _positions(settings, SMILES[::-1])
    for a, b, c in zip(together, alone, backwards[::-1], strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a, c)


def test_worker_processes_give_the_same_conformers(tiny_run):
    one, _ = _positions(GenerateSettings(n=2, checkpoint=str(tiny_run), refine="mmff94s"))
    two, _ = _positions(GenerateSettings(n=2, checkpoint=str(tiny_run), refine="mmff94s", jobs=2))
    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize("suffix", [".sdf", ".sdf.gz", ".xyz", ".h5", ".pkl"])
def test_writers(tmp_path, suffix):
    path = tmp_path / f"out{suffix}"
    settings = GenerateSettings(n=2, method="etkdg", refine="mmff94s")
    generate_to(input_records(*SMILES), str(path), settings)
    assert path.exists()
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    if suffix == ".pkl":
        assert [len(v) for v in pickle.loads(path.read_bytes()).values()] == [2, 2, 2]  # noqa: S301  our own file
    if suffix == ".xyz":
        assert path.read_text().splitlines()[0] == "13"
    if suffix in (".sdf", ".sdf.gz", ".h5"):
        result = evaluate(path, path)
        assert result.report["n_scored"] == 3
        assert result.report["rows"]["0.5"]["cov_r"]["mean"] == 100.0


def test_sdf_records(tmp_path):
    path = tmp_path / "out.sdf"
    generate_to(input_records(*SMILES), str(path), GenerateSettings(n=2, method="etkdg", refine="mmff94s", seed=4))
    mols = list(Chem.SDMolSupplier(str(path), removeHs=False))
    assert [m.GetProp("_Name") for m in mols] == ["m0", "m0", "m1", "m1", "m2", "m2"]
    assert mols[1].GetProp("conformer") == "1"
    assert mols[0].GetProp("conformergen_smiles") == SMILES[0]
    assert (mols[0].GetProp("energy_method"), mols[0].GetProp("seed")) == ("mmff94s", "4")
    weights = [float(m.GetProp("boltzmann_weight")) for m in mols[:2]]
    assert sum(weights) == pytest.approx(1.0, abs=1e-5)
    assert min(float(m.GetProp("energy_kcal")) for m in mols[:2]) == 0.0


def test_failed_run_leaves_no_output(tmp_path, tiny_run):
    path = tmp_path / "out.sdf"

    def broken():
        yield input_records(*SMILES)[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate_to(broken(), str(path), GenerateSettings(n=1, method="etkdg"))
    assert list(tmp_path.iterdir()) == []


def test_python_api(tiny_run):
    mol = conformergen.generate("CC(N)C(=O)O", n=3, checkpoint=str(tiny_run), refine="mmff94s")
    assert mol.GetNumConformers() == 3
    assert mol.GetConformer(0).HasProp("energy_kcal")
    again = conformergen.generate(Chem.MolFromSmiles("CCO"), n=2, method="etkdg")
    assert again.GetNumConformers() == 2
    with pytest.raises(MoleculeError) as caught:
        conformergen.generate("C1CC", method="etkdg")
    assert caught.value.reason == "parse"
    assert conformergen.load_model(tiny_run).diffusion.prior == "seed"


# --- refinement --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", REFINERS)
def test_refiners_keep_order_count_and_input(name, ensembles):
    if name == "gfn-ff" and not xtb.available():
        pytest.skip("the xtb program is not installed")
    conformers = ensembles[0]
    before = conformers.positions.copy()
    out = REFINERS[name](conformers, max_steps=200)
    assert len(out.conformers) == len(conformers) == len(out.converged)
    np.testing.assert_array_equal(conformers.positions, before)
    assert np.abs(out.conformers.positions - before).max() < 3.0


# --- evaluation --------------------------------------------------------------------------------------------


def test_cov_and_mat_are_the_published_evaluators(tmp_path):
    """Line by line after torsional diffusion's protocol, one molecule failed."""
    molecules = [molecule_from_smiles(s, name=f"m{i}") for i, s in enumerate(("CCCCO", "CC(C)CCC(=O)O", "CCOCC"))]
    for path, seed, chosen in ((tmp_path / "ref.sdf", 1, molecules), (tmp_path / "gen.sdf", 2, molecules[:2])):
        with Chem.SDWriter(str(path)) as writer:
            for molecule in chosen:
                mol = mol_with_conformers(molecule, embed(molecule, 5, seed=seed))
                mol.SetProp("_Name", molecule.name)
                mol.SetProp("SMILES", molecule.smiles)
                for conformer in mol.GetConformers():
                    writer.write(mol, confId=conformer.GetId())
    report = evaluate(tmp_path / "gen.sdf", tmp_path / "ref.sdf").report
    expected = {name: [] for name in METRICS}
    for molecule in molecules[:2]:
        ref = Chem.RemoveHs(mol_with_conformers(molecule, embed(molecule, 5, seed=1)))
        gen = Chem.RemoveHs(mol_with_conformers(molecule, embed(molecule, 5, seed=2)))
        rmsd = np.array(
            [
                [rdMolAlign.GetBestRMS(Chem.Mol(gen, confId=j), Chem.Mol(ref, confId=i)) for j in range(5)]
                for i in range(5)
            ]
        )
        expected["cov_r"].append(100.0 * (rmsd.min(1) < 0.75).mean())
        expected["cov_p"].append(100.0 * (rmsd.min(0) < 0.75).mean())
        expected["mat_r"].append(rmsd.min(1).mean())
        expected["mat_p"].append(rmsd.min(0).mean())
    assert report["n_failed"] == 1
    for name in METRICS:
        values = expected[name] + ([0.0] if name.startswith("cov") else [])
        assert report["rows"]["0.75"][name]["mean"] == pytest.approx(np.mean(values), abs=1e-4)
        assert report["rows"]["0.75"][name]["median"] == pytest.approx(np.median(values), abs=1e-4)
        assert report["succeeded_only"]["0.75"][name]["mean"] == pytest.approx(np.mean(expected[name]), abs=1e-4)
    assert json.loads(json.dumps(report))["schema"] == 3


def test_html_report_is_self_contained(tmp_path):
    pytest.importorskip("matplotlib")
    pytest.importorskip("jinja2")
    from conformergen.reports.evaluation_report import write_html

    generate_to(input_records(*SMILES), str(tmp_path / "a.sdf"), GenerateSettings(n=2, method="etkdg"))
    result = evaluate(tmp_path / "a.sdf", tmp_path / "a.sdf")
    write_html(tmp_path / "r.html", {"<script>evil": result.result}, {"<script>evil": result.scores})
    text = (tmp_path / "r.html").read_text()
    assert "<script>evil" not in text
    assert 'src="http' not in text
    assert "$3Dmol.createViewer" in text


def test_signal_inside_a_call_from_c_ends_the_program_as_any_other():
    cli = importlib.import_module("conformergen.cli.app")
    error = SystemError("returned a result with an exception set")
    error.__cause__ = cli.Terminated()
    assert cli._ending(error) == (143, "terminated")
    assert cli._ending(SystemError("a bug of an extension")) is None
