"""The ranker: symmetry, learning from differences, and its place in a model and in generation."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from conformergen.checkpoint.folder import RANKER
from conformergen.checkpoint.model import load_model, load_ranker
from conformergen.chem import embed, mmff_energies, mol_with_conformers, molecule_from_smiles
from conformergen.generation.selection import select_with_mirrors
from conformergen.torsion.search import TorsionSearchSettings
from conformergen.datasets.collate import GraphTables, collate_graphs
from conformergen.io.inputs import InputRecord
from conformergen.datasets.ranked import RankedSet
from conformergen.io.shards import ShardEntry, write_shard
from conformergen.errors import DataError, InputError, MoleculeError
from conformergen.geometry.rotations import haar_rotations
from conformergen.nn import NetworkSettings
from conformergen.nn.energy import EnergyNetwork
from conformergen.nn.relaxation import RelaxationSettings
from conformergen.records import ConformerSet
from conformergen.sampling.energies import predict_energies
from conformergen.training.ranker import RankerTrainer, RankingSettings, train_ranker
from conformergen.training.ranking_data import RankingData
from conformergen.commands.export import export
from conformergen.generation.settings import GenerateSettings
from conformergen.generation.stream import Pipeline
from conformergen.generation.sampler import ModelSampler, _window
from conformergen.generation.samples import minimise_samples
from conformergen.commands.train_ranker import fit_ranker, sample_ranked
from conformergen.training.ranking_data import load_ranked, with_baseline

TINY = NetworkSettings(
    channels=16, odd_channels=8, heads=4, layers=2, n_radial=12, relaxation=RelaxationSettings(mode="none")
)


def _set(smiles, *, n=8):
    """Conformers whose 'GFN2' energy falls with the distance of the first two heteroatoms: nothing MMFF94s knows."""
    molecule = molecule_from_smiles(smiles)
    positions = embed(molecule, n, seed=3)
    hetero = [i for i, z in enumerate(molecule.graph.atomic_numbers) if z in (7, 8)][:2]
    distance = np.linalg.norm(positions[:, hetero[0]] - positions[:, hetero[1]], axis=-1).astype(np.float64)
    energies = 3.0 * (distance.max() - distance)
    return ConformerSet(molecule=molecule, positions=positions, energies=energies, energy_method="gfn2-xtb")


@pytest.fixture(scope="module")
def sets():
    return [with_baseline(_set(s)) for s in ("NCCCO", "NCCCCO", "CNCCOC", "OCCCN", "C[C@H](N)CCO")]


def test_energy_is_invariant_and_knows_handedness():
    molecule = molecule_from_smiles("C[C@H](N)[C@@H](O)C=O")
    graph = collate_graphs([GraphTables(molecule.graph)] * 2)
    x = torch.from_numpy(embed(molecule, 2, seed=0))
    torch.manual_seed(0)
    network = EnergyNetwork(TINY).eval()
    baseline = torch.zeros(2)
    plain = network(graph, x, baseline)
    rotation = haar_rotations(torch.randn(1, 4))[0]
    torch.testing.assert_close(network(graph, x @ rotation.T + 3.0, baseline), plain, atol=2e-4, rtol=1e-4)
    mirrored = molecule_from_smiles("C[C@@H](N)[C@H](O)C=O")
    other = collate_graphs([GraphTables(mirrored.graph)] * 2)
    if (mirrored.graph.bonds == molecule.graph.bonds).all():
        torch.testing.assert_close(network(other, -x, baseline), plain, atol=2e-4, rtol=1e-4)
    assert (network(graph, -x, baseline) - plain).abs().max() > 1e-4
    shifted = network(graph, x, baseline + 2.0)
    torch.testing.assert_close(shifted - plain, 2.0 * network.share.expand(2), atol=1e-4, rtol=1e-4)


def test_ranker_learns_differences(sets):
    torch.manual_seed(0)
    data, seen = RankingData(sets), []
    settings = RankingSettings(steps=60, learning_rate=5e-3, warmup=5, ema=0.8, report_every=20)
    trainer = RankerTrainer(EnergyNetwork(TINY), data, settings)
    train_ranker(trainer, report=lambda loss: seen.append((trainer.step, loss)))
    assert [step for step, _ in seen] == [20, 40, 60]
    assert seen[-1][1] < 0.6 * seen[0][1]
    network = trainer.averaged
    guess = predict_energies(network, sets[1])
    wanted = sets[1].conformers.energies
    assert np.corrcoef(guess, wanted)[0, 1] > np.corrcoef(sets[1].baseline, wanted)[0, 1]
    small = predict_energies(network, sets[1], pair_budget=1)
    np.testing.assert_allclose(small, guess, atol=1e-3)


def test_a_constant_of_the_molecule_changes_nothing(sets):
    network = EnergyNetwork(TINY)
    chosen = [(0, np.arange(4)), (1, np.arange(3))]
    before = RankingData(sets).loss(network, chosen, torch.device("cpu"))
    moved = [RankedSet(conformers=s.conformers, baseline=s.baseline + 100.0) for s in sets]
    after = RankingData(moved).loss(network, chosen, torch.device("cpu"))
    torch.testing.assert_close(after, before)


@pytest.fixture
def shard(sets, tmp_path):
    path = tmp_path / "data" / "part.h5"
    path.parent.mkdir()
    write_shard(path, [ShardEntry(conformers=s.conformers, split="train") for s in sets])
    return path


def test_stopped_ranker_training_ends_in_the_same_bytes(shard, tiny_run, tmp_path):
    settings = RankingSettings(steps=7, warmup=1, report_every=2)

    def run(name, stop=None, settings=settings, **options):
        def report(step, loss, quality):
            if step == stop:
                raise KeyboardInterrupt

        return fit_ranker([shard], tmp_path / name, settings, init=str(tiny_run), device="cpu", report=report, **options)

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


def test_ranker_trains_travels_with_a_model_and_orders_its_samples(sets, shard, tiny_run, tmp_path):
    assert len(load_ranked([shard.parent])) == len(load_ranked([shard])) == len(sets)
    run = tmp_path / "ranker"
    fit_ranker([shard], run, RankingSettings(steps=4, warmup=1), init=str(tiny_run), device="cpu")
    fit_ranker([shard], tmp_path / "moved", RankingSettings(steps=4, warmup=1), init=str(tiny_run), samples_of=str(tiny_run))
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
    record = InputRecord(index=0, smiles="COCCNC(=O)CCO", name="x")
    (conformers, _), summary = list(Pipeline([record], settings))
    assert (summary.done, len(conformers)) == (1, 6)
    candidates = _set("COCCNC(=O)CCO", n=12)
    sampler = ModelSampler(settings)
    [emitted] = sampler([(candidates, 5)], lambda **counts: None, partial(map, minimise_samples))
    [samples] = sampler._sampled([candidates], lambda **counts: None, last=True)
    assert len(samples) == 12
    assert not np.array_equal(samples.positions, candidates.positions)
    energies = predict_energies(model.ranker, RankedSet(conformers=samples, baseline=candidates.energies))
    np.testing.assert_array_equal(emitted.positions[0], samples.positions[energies.argmin()])
    np.testing.assert_array_equal(emitted.positions[3:], -emitted.positions[:2])
    again = ModelSampler(replace(settings, steps=3))  # two rounds, two evaluations in the second
    given = []

    def once(made):
        given.extend(made)
        return map(minimise_samples, made)

    [twice] = again([(candidates, 5)], lambda **counts: None, once)
    best = np.sort(energies.argsort()[:3])  # five conformers are three and two mirror images
    np.testing.assert_array_equal(given[0].positions, samples.positions[best])
    assert not np.isin(twice.positions, samples.positions).any()
    [whole] = again._sampled([minimise_samples(given[0])], lambda **counts: None, last=True)
    assert all((np.abs(whole.positions - x) < 1e-6).all((1, 2)).any() for x in twice.positions[:3])
    once_more = sample_ranked(RankedSet(conformers=candidates, baseline=candidates.energies), model, rounds=2)
    assert not np.array_equal(once_more.baseline, candidates.energies)
    np.testing.assert_array_equal(once_more.conformers.energies, candidates.energies)
    died = [MoleculeError("crash", "worker died")]
    [same] = again([(candidates, 5)], lambda **counts: None, lambda made: died)
    np.testing.assert_array_equal(same.positions, emitted.positions)
    (tmp_path / "model" / RANKER).write_bytes(b"\0" * 100)
    with pytest.raises(DataError, match="SHA-256"):
        load_model(tmp_path / "model")
    with pytest.raises(DataError):
        load_ranker(tiny_run / "best")


def test_window_of_a_macrocycle_is_wide_and_stays_so():
    (plain, widened), (wide, kept) = (_window(molecule_from_smiles(s)) for s in ("CCCCO", "O=C1CCCCCCCCCCO1"))
    assert plain < wide
    assert widened > kept == 0.0


def test_completion_keeps_the_window_and_mirrors():
    molecule = molecule_from_smiles("NCCO")
    positions = embed(molecule, 3, seed=0).astype(np.float64)
    energies = np.array([4.0, 0.0, 99.0])
    filling = select_with_mirrors(molecule, energies, 6, seed=0, settings=TorsionSearchSettings(window=5.0))
    got, values = filling.of(positions), energies[filling.rows]
    np.testing.assert_array_equal(got[:2], positions[[1, 0]])
    np.testing.assert_array_equal(got[3:], -got[:3])
    assert set(values) <= {0.0, 4.0}


def test_mmff_energies_are_those_of_the_geometry():
    molecule = molecule_from_smiles("CCO")
    mol = mol_with_conformers(molecule, embed(molecule, 2, seed=0))
    assert np.ptp(mmff_energies(mol)) < 1e-3
    mol.RemoveAllConformers()
    assert mmff_energies(mol).shape == (0,)
    boron = molecule_from_smiles("OBO")
    assert np.isnan(mmff_energies(mol_with_conformers(boron, embed(boron, 1, seed=0)))).all()
