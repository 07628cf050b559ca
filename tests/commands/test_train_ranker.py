"""Tests of ``conformergen.commands.train_ranker``."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from support import input_records, ranked_candidates, run_pipeline

from conformergen.checkpoint.folder import RANKER
from conformergen.checkpoint.model import load_model, load_ranker
from conformergen.commands.export import export
from conformergen.commands.train_ranker import fit_ranker, sample_ranked
from conformergen.datasets.ranked import RankedSet
from conformergen.errors import DataError, InputError
from conformergen.generation.rounds import round_settings, run_rounds
from conformergen.generation.settings import GenerateSettings
from conformergen.io.shards import ShardEntry, write_shard
from conformergen.records import ConformerSet
from conformergen.runtime.workers import Workers
from conformergen.training.ranker import RankingSettings
from conformergen.training.ranking_data import load_ranked


@pytest.fixture
def shard(ranked_sets, tmp_path):
    path = tmp_path / "data" / "part.h5"
    path.parent.mkdir()
    write_shard(path, [ShardEntry(conformers=s.conformers, split="train") for s in ranked_sets])
    return path


def test_stopped_ranker_training_ends_in_the_same_bytes(shard, tiny_run, tmp_path):
    settings = RankingSettings(steps=7, warmup=1, report_every=2)

    def run(name, stop=None, settings=settings, **options):
        def report(step, loss, quality):
            if step == stop:
                raise KeyboardInterrupt

        return fit_ranker(
            [shard], tmp_path / name, settings, init=str(tiny_run), device="cpu", report=report, **options
        )

    run("whole")
    with pytest.raises(KeyboardInterrupt):
        run("part", stop=6, resume=True)
    unfinished = load_ranker(tmp_path / "part")
    run("part", resume=True)
    files = {p.name: p.read_bytes() for p in (tmp_path / "whole").iterdir()}
    assert {p.name: p.read_bytes() for p in (tmp_path / "part").iterdir()} == files
    assert [line.split(",")[0] for line in files["metrics.csv"].decode().split()] == ["step", "2", "4", "6", "7"]
    finished = load_ranker(tmp_path / "part")
    assert any(not torch.equal(a, b) for a, b in zip(unfinished.parameters(), finished.parameters(), strict=True))
    run("part", stop=7, resume=True)  # nothing is left to do, so nothing is reported
    with pytest.raises(DataError, match="other settings"):
        run("part", settings=replace(settings, steps=9), resume=True)
    with pytest.raises(InputError, match="exists"):
        run("part")


def test_ranker_trains_travels_with_a_model_and_orders_its_samples(ranked_sets, shard, tiny_run, tmp_path):
    assert len(load_ranked([shard.parent])) == len(load_ranked([shard])) == len(ranked_sets)
    run = tmp_path / "ranker"
    fit_ranker([shard], run, RankingSettings(steps=4, warmup=1), init=str(tiny_run), device="cpu")
    fit_ranker(
        [shard], tmp_path / "moved", RankingSettings(steps=4, warmup=1), init=str(tiny_run), samples_of=str(tiny_run)
    )
    both = [(folder / RANKER).read_bytes() for folder in (run, tmp_path / "moved")]
    assert both[0] != both[1]
    export(str(tiny_run), tmp_path / "model", exact=False, ranker=run)
    model = load_model(tmp_path / "model")
    assert model.ranker is not None
    assert model.settings["ranker"]["molecules"] == 5
    assert "/" not in model.settings["ranker"]["init"]
    assert load_model(tiny_run).network.branches()  # relaxed, and still an invariant energy comes of it
    assert not model.ranker.trunk.branches()
    assert load_model(tiny_run).ranker is None
    settings = GenerateSettings(n=6, checkpoint=str(tmp_path / "model"), steps=1, device="cpu")
    [conformers], summary = run_pipeline(settings, input_records("COCCNC(=O)CCO"))
    assert (summary.done, len(conformers)) == (1, 6)
    (tmp_path / "model" / RANKER).write_bytes(b"\0" * 100)
    with pytest.raises(DataError, match="SHA-256"):
        load_model(tmp_path / "model")
    with pytest.raises(DataError):
        load_ranker(tiny_run / "best")


def test_ranker_is_trained_on_the_samples_of_the_rounds_that_generate_runs(ranked_model):
    starts = ranked_candidates(12)
    conformers = ConformerSet(molecule=starts.molecule, positions=starts.positions, energies=starts.mmff_energies)
    with Workers(1) as workers:
        [expected] = run_rounds(ranked_model, [starts], round_settings(ranked=True), workers=workers)
        moved = sample_ranked(
            RankedSet(conformers=conformers, baseline=starts.mmff_energies), ranked_model, workers=workers
        )
    np.testing.assert_array_equal(moved.conformers.positions, expected.positions)
    np.testing.assert_array_equal(moved.baseline, expected.mmff_energies)
    np.testing.assert_array_equal(moved.conformers.energies, starts.mmff_energies)
