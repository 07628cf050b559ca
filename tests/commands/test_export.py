"""Tests of ``conformergen.commands.export``."""

import json
from dataclasses import replace

import pytest
import torch

from conformergen.checkpoint.model import load_model
from conformergen.commands.export import export
from conformergen.commands.train import train
from conformergen.errors import InputError
from conformergen.nn import RELAXATION_MODES

RELAXED = [name for name, mode in RELAXATION_MODES.items() if mode.has_branches]


@pytest.mark.parametrize("mode", RELAXED)
def test_exact_export_or_refusal(shard_folder, tiny_config, tmp_path, mode):
    relaxation = replace(tiny_config.network.relaxation, mode=mode)
    config = replace(tiny_config, network=replace(tiny_config.network, relaxation=relaxation))
    run = tmp_path / "run"
    train([shard_folder], run, config, device="cpu")
    if mode in ("ace", "remul", "rpp"):
        with pytest.raises(InputError, match="max beta"):
            export(str(run), tmp_path / "exact", exact=True)
        summary = export(str(run), tmp_path / "kept", exact=False)
        assert not summary.equivariant
        assert summary.equivariance_error_exported == summary.equivariance_error_trained > 1e-5
        assert load_model(tmp_path / "kept").network.branches()
        return
    summary = export(str(run), tmp_path / "exact", exact=True)
    assert summary.equivariance_error_exported < 1e-5
    model = load_model(tmp_path / "exact")
    assert not model.network.branches()
    assert json.loads((tmp_path / "exact" / "settings.json").read_text())["trained_with"] == mode


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
