"""The ranker: symmetry, learning from differences, and its place in a model and in generation."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from support import input_records, run_pipeline

from conformergen.checkpoint.folder import RANKER
from conformergen.checkpoint.model import load_model, load_ranker
from conformergen.chem import embed, mmff_energies, mol_with_conformers, molecule_from_smiles
from conformergen.commands.export import export
from conformergen.commands.train_ranker import fit_ranker, sample_ranked
from conformergen.datasets.collate import GraphTables, collate_graphs
from conformergen.datasets.ranked import RankedSet
from conformergen.errors import DataError, InputError, MoleculeError
from conformergen.generation.rounds import RoundSettings, ranked_energies, round_settings, run_rounds
from conformergen.generation.samples import Samples, minimise_samples
from conformergen.generation.selection import SelectionSettings, ranked_selection, select_with_mirrors
from conformergen.generation.settings import GenerateSettings
from conformergen.geometry.rotations import haar_rotations
from conformergen.io.shards import ShardEntry, write_shard
from conformergen.nn import NetworkSettings
from conformergen.nn.energy import EnergyNetwork
from conformergen.nn.relaxation import RelaxationSettings
from conformergen.records import ConformerSet
from conformergen.runtime.workers import Workers
from conformergen.sampling.energies import predict_energies
from conformergen.training.ranker import RankerTrainer, RankingSettings, train_ranker
from conformergen.training.ranking_data import RankingData, load_ranked, with_baseline

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


def _predict(network, ranked, **options):
    conformers = ranked.conformers
    return predict_energies(network, conformers.molecule, conformers.positions, ranked.baseline, **options)


def test_ranker_learns_differences(sets):
    torch.manual_seed(0)
    data, seen = RankingData(sets), []
    settings = RankingSettings(steps=60, learning_rate=5e-3, warmup=5, ema=0.8, report_every=20)
    trainer = RankerTrainer(EnergyNetwork(TINY), data, settings)
    train_ranker(trainer, report=lambda loss: seen.append((trainer.step, loss)))
    assert [step for step, _ in seen] == [20, 40, 60]
    assert seen[-1][1] < 0.6 * seen[0][1]
    network = trainer.averaged
    guess = _predict(network, sets[1])
    wanted = sets[1].conformers.energies
    assert np.corrcoef(guess, wanted)[0, 1] > np.corrcoef(sets[1].baseline, wanted)[0, 1]
    small = _predict(network, sets[1], pair_budget=1)
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


def test_ranker_trains_travels_with_a_model_and_orders_its_samples(sets, shard, tiny_run, tmp_path):
    assert len(load_ranked([shard.parent])) == len(load_ranked([shard])) == len(sets)
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


@pytest.fixture(scope="module")
def ranked_model(sets, tiny_run, tmp_path_factory):
    """A model with a ranker."""
    folder = tmp_path_factory.mktemp("ranked")
    write_shard(folder / "part.h5", [ShardEntry(conformers=s.conformers, split="train") for s in sets])
    settings = RankingSettings(steps=4, warmup=1)
    fit_ranker([folder / "part.h5"], folder / "ranker", settings, init=str(tiny_run), device="cpu")
    export(str(tiny_run), folder / "model", exact=False, ranker=folder / "ranker")
    return load_model(folder / "model")


class _Serial:
    """Stands for worker processes; remembers what it was given."""

    def __init__(self, failing=False):
        self.given, self.failing = [], failing

    def map(self, function, items, *, timeout=600.0, ahead=None):
        items = list(items)
        self.given.append(items)
        return [MoleculeError("crash", "worker died") if self.failing else function(item) for item in items]


def _candidates(n_final):
    made = _set("COCCNC(=O)CCO", n=12)
    return Samples(
        molecule=made.molecule,
        positions=made.positions,
        mmff_energies=made.energies,
        fallback=np.zeros(len(made), np.uint8),
        n_final=n_final,
    )


def test_only_the_best_ranked_samples_enter_the_final_round(ranked_model):
    starts, workers = _candidates(3), _Serial()
    [first] = run_rounds(ranked_model, [starts], RoundSettings(rounds=1, final_evaluations=1), workers=workers)
    assert workers.given == []
    assert len(first) == 12
    assert not np.array_equal(first.positions, starts.positions)
    best = np.sort(np.argsort(ranked_energies(ranked_model.ranker, first))[:3])
    [twice] = run_rounds(ranked_model, [starts], RoundSettings(rounds=2), workers=workers)
    np.testing.assert_array_equal(workers.given[0][0].positions, first.positions[best])
    assert len(twice) == 3
    again = replace(minimise_samples(workers.given[0][0]), n_final=3)
    [once] = run_rounds(ranked_model, [again], RoundSettings(rounds=1), workers=workers)
    np.testing.assert_allclose(twice.positions, once.positions, atol=1e-6)


def test_molecule_whose_minimisation_fails_keeps_its_samples(ranked_model):
    starts = _candidates(12)
    [first] = run_rounds(ranked_model, [starts], RoundSettings(rounds=1, final_evaluations=1), workers=_Serial())
    [same] = run_rounds(ranked_model, [starts], RoundSettings(rounds=2), workers=_Serial(failing=True))
    np.testing.assert_array_equal(same.positions, first.positions)


def test_ranker_is_trained_on_the_samples_of_the_rounds_that_generate_runs(ranked_model):
    starts = _candidates(12)
    conformers = ConformerSet(molecule=starts.molecule, positions=starts.positions, energies=starts.mmff_energies)
    with Workers(1) as workers:
        [expected] = run_rounds(ranked_model, [starts], round_settings(ranked=True), workers=workers)
        moved = sample_ranked(
            RankedSet(conformers=conformers, baseline=starts.mmff_energies), ranked_model, workers=workers
        )
    np.testing.assert_array_equal(moved.conformers.positions, expected.positions)
    np.testing.assert_array_equal(moved.baseline, expected.mmff_energies)
    np.testing.assert_array_equal(moved.conformers.energies, starts.mmff_energies)


def test_window_of_a_macrocycle_is_wide_and_stays_so():
    small, large = (ranked_selection(molecule_from_smiles(s), None) for s in ("CCCCO", "O=C1CCCCCCCCCCO1"))
    assert small.window < large.window
    assert small.min_unique_fraction > large.min_unique_fraction == 0.0
    assert ranked_selection(molecule_from_smiles("CCCCO"), 7.0).window == 7.0


def test_completion_keeps_the_window_and_mirrors():
    molecule = molecule_from_smiles("NCCO")
    positions = embed(molecule, 3, seed=0).astype(np.float64)
    energies = np.array([4.0, 0.0, 99.0])
    selection = select_with_mirrors(
        molecule, energies, 6, seed=0, settings=SelectionSettings(window=5.0, temperature=4.0)
    )
    got, values = selection.apply(positions), energies[selection.rows]
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
