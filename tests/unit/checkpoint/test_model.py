"""Tests of ``conformergen.checkpoint.model``."""

import shutil

import pytest
import torch

from conformergen.checkpoint.folder import NETWORK_FILES, resolve, verify
from conformergen.checkpoint.model import load_model, tensor_bytes, without_branches
from conformergen.errors import DataError


def test_model_names_all_its_networks():
    model = load_model()
    files = verify(resolve("default"))
    assert model.digests == {role: files[file] for role, file in NETWORK_FILES.items()}
    assert set(model.digests) == {"denoiser", "ranker", "torsion_model"}
    assert model.label == f"default:{model.digests['denoiser'][:12]}"


def test_run_without_own_torsion_model_uses_the_default_one(tiny_run):
    assert load_model(tiny_run).digests["torsion_model"] == load_model().digests["torsion_model"]
    assert "ranker" not in load_model(tiny_run).digests


def test_weights_of_another_size_are_refused(tiny_run, tmp_path):
    shutil.copytree(resolve(str(tiny_run)), tmp_path / "model")
    settings = (tmp_path / "model" / "settings.json").read_text().replace('"channels": 16', '"channels": 24')
    (tmp_path / "model" / "settings.json").write_text(settings)
    with pytest.raises(DataError):
        load_model(tmp_path / "model")


def test_network_without_branches_has_the_shared_weights(tiny_run):
    model = load_model(tiny_run)
    exact = without_branches(model.network, model.network.settings)
    assert exact.branches() == []
    trained = model.network.state_dict()
    assert all(torch.equal(value, trained[name]) for name, value in exact.state_dict().items())
    assert len(tensor_bytes(exact)) < len(tensor_bytes(model.network))
