"""Random torsion search: rotatable torsions, minima, repeats, mirror images; starts made from references."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from support import input_records, run_pipeline

from conformergen.checkpoint.folder import find_torsion_model
from conformergen.chem import (
    embed,
    get_torsions,
    heavy_atoms,
    minimise_mmff,
    mmff_energies,
    mol_with_conformers,
    molecule_from_smiles,
    rotatable_torsions,
    set_torsions,
    to_mol,
    torsion_periods,
)
from conformergen.chem.molecule import ELEMENT_SYMBOLS
from conformergen.datasets.pairing import PairingSettings, with_starts
from conformergen.errors import InputError
from conformergen.generation.samples import Samples, minimise_samples
from conformergen.generation.selection import SelectionSettings, select_by_window
from conformergen.generation.settings import GenerateSettings
from conformergen.generation.starts import CANDIDATES
from conformergen.geometry.stereo import stereo_ok
from conformergen.records import ConformerSet
from conformergen.torsion import (
    FREE,
    RestrainedTorsions,
    TorsionRestraint,
    TorsionSearchSettings,
    minimise_restrained,
    search,
    torsion_minima,
)
from conformergen.torsion.features import TorsionFeatures, torsion_features
from conformergen.torsion.model import BINS, TorsionModel, draw_torsions
from conformergen.torsion.novelty import select_diverse
from conformergen.training.torsion_data import load_torsion_sets, torsion_set, write_torsion_sets
from conformergen.training.torsion_model import (
    FusedTorsionModel,
    PaddedTorsions,
    TorsionModelSettings,
    cross_entropy,
    initial_weights,
    make_optimisers,
)

MODEL = find_torsion_model("default")
CHIRAL = "C[C@H](O)[C@@H](N)CCOC(=O)/C=C/c1ccccc1"
LEARNED = ("C[C@H](O)[C@@H](N)CCO", "CC(C)COC(=O)c1ccccc1CO")


def _search(smiles, n, seed):
    """Conformers of the method ``torsion+mmff94s``."""
    [conformers], _ = run_pipeline(GenerateSettings(n=n, method="torsion+mmff94s", seed=seed), input_records(smiles))
    return conformers


def _energies(molecule, positions):
    mol = mol_with_conformers(molecule, positions)
    return minimise_mmff(mol, max_steps=1)[1]


def test_methyls_and_double_bonds_are_not_turned():
    mol = to_mol(molecule_from_smiles("CC/C=C/C#CCO"))
    assert {tuple(sorted(q[1:3])) for q in rotatable_torsions(mol).tolist()} == {(1, 2), (6, 7)}
    assert len(rotatable_torsions(to_mol(molecule_from_smiles("CC")))) == 0


def test_torsions_are_set_and_read_back():
    molecule = molecule_from_smiles("CCOCCN")
    mol = to_mol(molecule)
    start = embed(molecule, 1, seed=0)[0].astype(np.float64)
    quartets = rotatable_torsions(mol)
    wanted = np.linspace(-150.0, 150.0, len(quartets))
    wanted[1] = np.nan
    turned = set_torsions(mol, start, quartets, wanted)
    before, after = get_torsions(mol, start, quartets), get_torsions(mol, turned, quartets)
    np.testing.assert_allclose(after, np.where(np.isnan(wanted), before, wanted), atol=1e-6)
    bonds = molecule.graph.bonds
    length = [np.linalg.norm(p[bonds[:, 0]] - p[bonds[:, 1]], axis=1) for p in (start, turned)]
    np.testing.assert_allclose(length[0], length[1], atol=1e-9)


def test_search_keeps_stereo_and_is_repeatable():
    found, again, other = (_search(CHIRAL, 12, seed) for seed in (5, 5, 6))
    molecule = found.molecule
    assert found.positions.shape == (12, molecule.graph.n_atoms, 3)
    assert stereo_ok(found.positions, molecule.graph).all()
    np.testing.assert_array_equal(found.positions, again.positions)
    assert not np.array_equal(found.positions, other.positions)
    minima = torsion_minima(molecule, 12, seed=5, model=MODEL)
    assert np.all(np.diff(minima.energies) >= 0)
    np.testing.assert_allclose(found.positions[: len(minima)], minima.positions, atol=1e-5)
    assert np.ptp(found.energies) <= TorsionSearchSettings().window


def test_molecule_without_centres_gives_mirror_images():
    found = _search("OCCCCN", 9, seed=0)
    assert len(found) == 9
    np.testing.assert_array_equal(found.positions[5:], -found.positions[:4])
    np.testing.assert_allclose(found.energies[5:], found.energies[:4])
    energies = _energies(found.molecule, found.positions)
    np.testing.assert_allclose(energies - energies.min(), found.energies, atol=0.1)


def test_search_finds_minima_that_etkdg_does_not():
    molecule = molecule_from_smiles("CCOC(=O)c1ccc(OCC)cc1C(=O)NC")
    minima = torsion_minima(molecule, 60, seed=0, model=MODEL)
    mol = mol_with_conformers(molecule, embed(molecule, 60, seed=0))
    _, theirs = minimise_mmff(mol, max_steps=500)
    low = theirs.min() + 6.0
    distinct = len(np.unique(np.round(theirs[theirs < low], 1)))
    assert len(np.unique(np.round(minima.energies[minima.energies < low], 1))) > 1.2 * distinct


def test_molecules_without_torsions_or_parameters_give_their_embeddings():
    for smiles, finite in (("C", True), ("c1ccccc1", True), ("OB(O)c1ccccc1", False)):
        found = _search(smiles, 7, seed=0)
        assert len(found) == 7
        assert (found.energies is not None) is finite


def _described(smiles, *, n=1):
    """A molecule's graph, its rotatable torsions and what the network reads of some embeddings."""
    molecule = molecule_from_smiles(smiles)
    quartets = rotatable_torsions(to_mol(molecule))
    positions = embed(molecule, n, seed=0).astype(np.float64)
    return molecule.graph, quartets, torsion_features(molecule.graph, quartets, positions), positions


def test_stereo_that_the_force_field_inverts_is_kept():
    found = _search("O=S(=O)(/N=[S@@]1/N=S=NS1)C(F)(F)F", 4, seed=0)
    assert len(found) == 4
    assert found.energies is None
    assert stereo_ok(found.positions, found.molecule.graph).all()


def test_model_knows_amides_and_chains():
    graph, quartets, described, _ = _described("CCNC(=O)CCC")
    degrees = draw_torsions(MODEL.load(), described, 400, np.random.default_rng(0), uniform=0.01)
    names = ["".join(ELEMENT_SYMBOLS[z] for z in row) for row in graph.atomic_numbers[quartets]]
    drawn = {min(name, name[::-1]): np.abs(degrees[:, i]) for i, name in enumerate(names)}
    assert (drawn["CNCO"] < 30).mean() > 0.7  # trans: carbon beside oxygen
    chain = drawn["CCCC"]
    assert ((chain > 40) & (chain < 90) | (chain > 150)).mean() > 0.7  # gauche and anti


def test_draws_are_repeatable_and_uniform_where_asked():
    _, quartets, described, _ = _described("OCCNC", n=3)
    model = MODEL.load()
    first, again, other = (
        draw_torsions(model, described, 50, np.random.default_rng(seed), uniform=0.1) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert first.shape == (50, len(quartets))
    assert np.abs(first).max() <= 180.0
    flat = draw_torsions(model, described, 3000, np.random.default_rng(0), uniform=1.0)
    counts = np.histogram(flat, bins=6, range=(-180.0, 180.0))[0] / flat.size
    np.testing.assert_allclose(counts, 1 / 6, atol=0.02)


def test_torsions_are_drawn_given_each_other():
    """The two bonds beside an ether's oxygen are never both gauche of opposite sign."""
    _, quartets, described, _ = _described("CCOCC")
    degrees = draw_torsions(MODEL.load(), described, 2000, np.random.default_rng(0), uniform=0.01)
    a, b = degrees.T
    assert len(quartets) == 2
    gauche = (np.abs(a) < 100) & (np.abs(b) < 100)
    opposite = (a[gauche] * b[gauche] < 0).mean()
    assert opposite < 0.35  # each by itself: a half


def test_starts_differ_from_each_other_where_draws_do():
    mol = to_mol(molecule_from_smiles("OCc1ccccc1"))
    quartets = rotatable_torsions(mol)
    period = torsion_periods(mol, quartets)
    assert sorted(period) == [180.0, 360.0]
    ring = int(period.argmin())
    draws = np.zeros((5, 2))
    draws[:, 1 - ring] = [60.0, 60.0, -60.0, 170.0, 100.0]
    draws[:, ring] = [10.0, 185.0, -5.0, 0.0, 0.0]
    assert select_diverse(draws, period, 5, mirrored=False).tolist() == [0, 2, 3, 4]
    assert select_diverse(draws, period, 5, mirrored=True).tolist() == [0, 3, 4]
    assert select_diverse(draws, period, 2, mirrored=True).tolist() == [0, 3]
    amine = to_mol(molecule_from_smiles("CN(C)CC(C)(C)C"))
    assert torsion_periods(amine, np.array([[0, 1, 3, 4], [1, 3, 4, 5]])).tolist() == [360.0, 120.0]


def test_mirror_images_have_the_other_handedness():
    graph, quartets, described, positions = _described("C[C@H](O)[C@@H](N)CCO", n=2)
    mirrored = torsion_features(graph, quartets, -positions)
    np.testing.assert_array_equal(mirrored.sides, 2 - described.sides)
    assert (described.sides != 1).any()
    assert (mirrored.relations != described.relations).any()


@pytest.mark.parametrize("kind", [TorsionModel, FusedTorsionModel])
def test_network_is_the_same_in_torch_and_padded(kind):
    """Two molecules, padded to one size, with torch, against each with NumPy."""
    model = MODEL.load()
    trained = kind(weights={name: torch.from_numpy(w) for name, w in model.weights.items()}, ops=torch)
    parts = [_described(smiles)[2] for smiles in ("OCCNC", "CC(C)COC(=O)c1ccccc1CO")]
    padded = {}
    for name in ("elements", "features", "pairs", "quartets", "sides", "relations"):
        values = [getattr(part, name)[0] for part in parts]
        shape = np.max([v.shape for v in values], axis=0)
        padded[name] = torch.from_numpy(
            np.stack([np.pad(v, [(0, n - m) for n, m in zip(shape, v.shape, strict=True)]) for v in values])
        )
    rng = np.random.default_rng(0)
    sizes = [part.elements.shape[1] for part in parts], [part.quartets.shape[1] for part in parts]
    atoms, exists = (torch.arange(max(size)) < torch.tensor(size)[:, None] for size in sizes)
    radians = rng.uniform(-np.pi, np.pi, exists.shape).astype(np.float32)
    known = rng.random(exists.shape) < 0.5
    both = TorsionFeatures(**padded)
    ends = trained.describe_ends(both, atoms=atoms)
    theirs = trained.condition(ends, both, present=exists)(torch.from_numpy(radians), torch.from_numpy(known))
    for i, part in enumerate(parts):
        n = part.quartets.shape[1]
        ours = model.condition(model.describe_ends(part), part)(radians[i : i + 1, :n], known[i : i + 1, :n])
        assert ours.dtype == np.float32
        assert ours.shape == (1, n, BINS)
        np.testing.assert_allclose(theirs[i, :n], ours[0], atol=1e-3)


def _learned(smiles, n=3):
    """What the training reads of embeddings, and their mirror images' codes."""
    molecule = molecule_from_smiles(smiles)
    positions = embed(molecule, n, seed=0)
    found = torsion_set(molecule, positions, np.arange(float(n)))
    return found, torsion_features(molecule.graph, found.features.quartets[0], -positions.astype(np.float64))


def test_training_data_survive_their_file_and_are_mirrored(tmp_path):
    torch.manual_seed(0)
    made = [_learned(smiles) for smiles in LEARNED]
    write_torsion_sets(tmp_path / "000000.npz", [found for found, _ in made])
    read = list(load_torsion_sets(tmp_path))
    assert [t.smiles for t in read] == [found.smiles for found, _ in made]
    data = PaddedTorsions(read)
    for i, (found, mirrored) in enumerate(made):
        np.testing.assert_allclose(read[i].radians, found.radians, atol=2e-3)
        ids = torch.tensor([i])
        seen = set()
        for _ in range(20):
            batch = data.batch(ids, 4)
            assert batch.atoms.all()
            assert batch.torsions.all()
            for row in range(4):
                near = [np.abs(sign * read[i].radians - batch.radians[row].numpy()).max(1) for sign in (1, -1)]
                sign, conformer = np.unravel_index(np.argmin(near), (2, 3))
                codes = (found.features, mirrored)[sign]
                seen.add((sign, conformer))
                np.testing.assert_array_equal(batch.features.sides[row], codes.sides[conformer])
                np.testing.assert_array_equal(batch.features.relations[row], codes.relations[conformer])
        assert len(seen) >= 4


def test_training_reaches_every_weight():
    torch.manual_seed(0)
    data = PaddedTorsions([_learned(smiles)[0] for smiles in LEARNED])
    size = {"channels": 16, "atom_layers": 1, "torsion_layers": 1, "heads": 4}
    settings = TorsionModelSettings(**size, learning_rate=0.01, weight_decay=0.0)
    weights = initial_weights(settings)
    optimisers = make_optimisers(weights, settings)
    assert sum(len(g["params"]) for o in optimisers for g in o.param_groups) == len(weights)
    model, ids, losses = FusedTorsionModel(weights=weights, ops=torch), torch.arange(2), []
    for _ in range(40):
        loss = cross_entropy(model, data, ids, 8, given=True, score=False).mean()
        for optimiser in optimisers:
            optimiser.zero_grad()
        loss.backward()
        for optimiser in optimisers:
            optimiser.step()
        losses.append(float(loss.detach()))
    # Keys shifted alike change nothing.
    grads = {name: w.grad for name, w in weights.items() if not name.endswith(".k.bias")}
    assert all(g is not None and g.abs().sum() > 0 for g in grads.values())
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])


@pytest.mark.parametrize(("smiles", "embedded"), [("CCC1CCCCCCCCCCC1", 20), ("CCC1CCCCC1", 8)])
def test_macrocycles_are_embedded_more_often(smiles, embedded, monkeypatch):
    asked = []
    monkeypatch.setattr(search, "embed", lambda m, n, **options: asked.append(n) or embed(m, n, **options))
    settings = TorsionSearchSettings(candidates_per_conformer=2, max_steps=1)
    torsion_minima(molecule_from_smiles(smiles), 20, seed=0, settings=settings, model=MODEL)
    assert asked == [embedded]


def test_settings_are_checked():
    with pytest.raises(InputError):
        TorsionRestraint(force_constant=-1.0)
    for wrong in ({"candidates_per_conformer": 0}, {"window": 0.0}, {"max_steps": 0}, {"uniform": 0.0}):
        with pytest.raises(InputError):
            TorsionSearchSettings(**wrong)
    for wrong in (
        {"pairing": "random"},
        {"pairing": "minimised", "mmff94s": False},
        {"pairing": "perturbed", "mmff94s": False},
    ):
        with pytest.raises(InputError, match="pairing"):
            PairingSettings(**wrong)


def test_minimised_starts_are_the_minima_of_their_references():
    molecule = molecule_from_smiles("CCCOC")
    rng = np.random.default_rng(0)
    references = embed(molecule, 4, seed=0) + rng.normal(0.0, 0.03, (4, molecule.graph.n_atoms, 3)).astype(np.float32)
    paired = with_starts(
        ConformerSet(molecule=molecule, positions=references), PairingSettings(pairing="minimised"), seed=0
    )
    assert np.all(_energies(molecule, paired.starts) < _energies(molecule, references) - 0.3)
    assert np.sqrt(((paired.starts - references) ** 2).sum(-1).mean(-1)).max() < 0.5


def test_perturbed_starts_are_near_their_references_and_new_for_each_seed():
    molecule = molecule_from_smiles("C[C@H](O)CC(=O)NCCO")
    references = embed(molecule, 6, seed=0)
    mol = mol_with_conformers(molecule, references)
    minimise_mmff(mol, max_steps=500)
    references = np.array([c.GetPositions() for c in mol.GetConformers()], dtype=np.float32)
    conformers = ConformerSet(molecule=molecule, positions=references)
    turned, again, other = (
        with_starts(conformers, PairingSettings(pairing="perturbed"), seed=seed).starts for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(turned, again)
    assert np.abs(turned - other).max() > 0.1
    heavy = heavy_atoms(to_mol(molecule))
    off = np.sqrt(((turned - references)[:, heavy] ** 2).sum(-1).mean(-1))
    assert off.max() < 1.0
    assert off.mean() > 0.02  # the references are minima: unperturbed starts are they
    assert stereo_ok(turned, molecule.graph).all()
    ring = molecule_from_smiles("C1CCCCC1")
    plain = ConformerSet(molecule=ring, positions=embed(ring, 2, seed=0))
    both = [with_starts(plain, PairingSettings(pairing=p), seed=0).starts for p in ("minimised", "perturbed")]
    np.testing.assert_array_equal(*both)


def test_torsions_are_restrained_and_the_rest_is_minimised():
    molecule = molecule_from_smiles("COc1ccccc1C(=O)NCCO")
    mol = to_mol(molecule)
    quartets = rotatable_torsions(mol)
    wanted = np.full((6, len(quartets)), 75.0) + 10.0 * np.arange(6)[:, None]
    seeds = embed(molecule, 1, seed=0).astype(np.float64)
    starts = np.array([set_torsions(mol, seeds[0], quartets, d) for d in wanted])

    def minimised(constant):
        restraint = TorsionRestraint(force_constant=constant, half_width=15.0) if constant else FREE
        torsions = RestrainedTorsions(quartets=quartets, degrees=wanted, restraint=restraint)
        found = minimise_restrained(molecule, starts, torsions, max_steps=500)
        minima, energies = found.positions, found.energies
        np.testing.assert_allclose(mmff_energies(mol_with_conformers(molecule, minima)), energies, atol=1e-6)
        degrees = np.array([get_torsions(mol, p, quartets) for p in minima])
        return energies, np.abs((degrees - wanted + 180.0) % 360.0 - 180.0)

    free, moved = minimised(0.0)
    weak, less = minimised(0.0005)
    firm, least = minimised(1.0)
    assert least.max() < 17.0 < moved.max()
    assert less.mean() < moved.mean()
    assert free.mean() <= weak.mean() <= firm.mean()
    assert np.all(firm < _energies(molecule, starts))


def test_minimised_starts_without_parameters_are_assigned():
    molecule = molecule_from_smiles("OB(O)c1ccccc1")
    references = embed(molecule, 2, seed=0)
    paired = with_starts(
        ConformerSet(molecule=molecule, positions=references), PairingSettings(pairing="minimised"), seed=0
    )
    assert np.isfinite(paired.starts).all()


def test_candidates_are_converged():
    """The ranker reads their energies; a flexible molecule takes most of the iterations."""
    molecule = molecule_from_smiles("CCN(CC)CCOC(=O)C(CC(=O)NCCc1ccccc1)Cc1ccc(OC)cc1")
    found = torsion_minima(molecule, 16, seed=0, settings=CANDIDATES, model=MODEL).energies
    longer = replace(CANDIDATES, max_steps=4000)
    longer = torsion_minima(molecule, 16, seed=0, settings=longer, model=MODEL).energies
    assert len(found) == len(longer)
    assert np.abs(found - longer).max() < 0.3  # with 150 iterations, 17


def _minimised(molecule, positions):
    positions = positions.astype(np.float32)
    energies = mmff_energies(mol_with_conformers(molecule, positions))
    n = len(positions)
    starts = Samples(
        molecule=molecule, positions=positions, mmff_energies=energies, fallback=np.zeros(n, np.uint8), n_final=n
    )
    return minimise_samples(starts)


def test_minimised_samples_keep_their_torsions_and_the_rest_is_mended():
    molecule = molecule_from_smiles("COc1ccccc1C(=O)NCCO")
    mol = to_mol(molecule)
    quartets = rotatable_torsions(mol)
    seeds = embed(molecule, 4, seed=0)
    bent = seeds + np.random.default_rng(0).normal(0.0, 0.03, seeds.shape)
    minima = _minimised(molecule, bent)
    before, after = (
        np.array([get_torsions(mol, p.astype(np.float64), quartets) for p in x]) for x in (bent, minima.positions)
    )
    assert np.abs((after - before + 180.0) % 360.0 - 180.0).max() < 25.0
    assert np.all(minima.mmff_energies < mmff_energies(mol_with_conformers(molecule, bent)) - 10.0)
    rigid = molecule_from_smiles("c1ccccc1")
    assert _minimised(rigid, embed(rigid, 2, seed=0)).positions.shape == (2, 12, 3)


@pytest.mark.parametrize(
    ("fraction", "kept"), [(0.0, {0, 1}), (0.25, {0, 1}), (0.5, {0, 1, 2, 3}), (1.0, {0, 1, 2, 3, 4})]
)
def test_a_fraction_of_what_is_selected_is_unique(fraction, kept):
    """From a window three times as wide, and never what lies beyond it."""
    energies = np.array([0.0, 1.0, 2.5, 4.0, 5.5, 6.5])
    settings = SelectionSettings(window=2.0, temperature=1.0, min_unique_fraction=fraction)
    rows = select_by_window(energies, 8, settings, np.random.default_rng(0))
    assert len(rows) == 8
    assert set(rows.tolist()) == kept
