"""The same results on a GPU; these need a CUDA device."""

import numpy as np
import pytest
import torch

from conformergen.checkpoint.folder import resolve
from conformergen.checkpoint.model import load_model, load_ranker
from conformergen.chem import embed, mol_with_conformers, molecule_from_smiles
from conformergen.commands.train import train
from conformergen.commands.train_ranker import fit_ranker
from conformergen.config import load_config
from conformergen.evaluation.scoring import rmsd_matrix
from conformergen.generation.settings import GenerateSettings
from conformergen.generation.stream import Pipeline
from conformergen.io.inputs import InputRecord
from conformergen.sampling import SamplingJob, SamplingSettings, sample_batch
from conformergen.training.ranker import RankingSettings

pytestmark = pytest.mark.gpu


DRUGS = ("CC(=O)Oc1ccccc1C(=O)O", "C[C@H](N)C(=O)NCCc1ccccc1", "CC(C)Cc1ccc(cc1)[C@@H](C)C(=O)O")


@pytest.mark.parametrize("bf16", ["false", "true"])
def test_training_and_resume(shard_folder, tmp_path, bf16):
    config = load_config(
        "tiny", None,
        ["training.steps=12", "training.validate_every=6", "training.checkpoint_every=6", f"training.bf16={bf16}"],
    )  # fmt: skip
    assert train([shard_folder], tmp_path / "run", config, device="cuda").finished
    assert train([shard_folder], tmp_path / "run", config, device="cuda", resume=True).finished
    # What was trained there is sampled here.
    assert load_model(resolve(str(tmp_path / "run"))).network is not None


def test_samples_are_those_of_the_cpu():
    molecules = [molecule_from_smiles(s, s) for s in DRUGS]
    seeds = [embed(m, 4, seed=0).astype(np.float32) for m in molecules]
    jobs = [
        SamplingJob(molecule=m, conformer=i, start_positions=p - p.mean(0))
        for m, s in zip(molecules, seeds, strict=True)
        for i, p in enumerate(s)
    ]
    found = []
    for device in ("cpu", "cuda"):
        model = load_model("default", device=device)
        settings = SamplingSettings(steps=3)
        found.append(sample_batch(model.network, model.diffusion, jobs, settings, seed=0, device=device))
    assert max(np.abs(a - b).max() for a, b in zip(*found, strict=True)) < 1e-3


def test_generation():
    records = [InputRecord(index=i, smiles=s, name=s) for i, s in enumerate(DRUGS)]
    found = []
    for device in ("cpu", "cuda"):
        *sets, summary = Pipeline(records, GenerateSettings(n=10, device=device))
        assert summary.failed == 0
        found.append([conformers.positions for conformers, _ in sets])
    for here, there in zip(*found, strict=True):
        assert here.shape == there.shape
        # The same conformers, unless two energies are equal within rounding.
        assert np.median(np.abs(here - there)) < 1e-3


def test_ranker(shard_folder, tmp_path):
    fit_ranker([shard_folder], tmp_path / "ranker", RankingSettings(steps=4, report_every=2), device="cuda")
    assert all(torch.isfinite(p).all() for p in load_ranker(tmp_path / "ranker").parameters())


def test_rmsd():
    molecule = molecule_from_smiles("CC(C)(C)c1ccc(cc1)C(=O)O", "")
    mols = [mol_with_conformers(molecule, embed(molecule, n, seed=n)) for n in (4, 6)]
    here, there = rmsd_matrix(*mols), rmsd_matrix(*mols, device="cuda")
    assert np.abs(here - there).max() < 1e-6
