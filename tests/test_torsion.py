"""Random torsion search: turning bonds, minima, repeats, mirror images; seeds relaxed from references."""

from dataclasses import replace

import numpy as np
import pytest

from conformergen.chem import (
    HeldTorsions,
    TorsionSettings,
    embed,
    get_torsions,
    heavy_atoms,
    minimise_mmff,
    mol_with_conformers,
    molecule_from_smiles,
    rotors,
    set_torsions,
    to_mol,
    torsion,
    torsion_minima,
    torsion_search,
)
from conformergen.chem.molecule import ELEMENT_SYMBOLS
from conformergen.chem.torsion_library import count, draw, load_library, save_library, shipped_library, surroundings
from conformergen.datasets.pairing import SeedSettings, with_seeds
from conformergen.errors import InputError
from conformergen.geometry.stereo import stereo_ok
from conformergen.records import ConformerSet
from conformergen.workflows.generate.seeding import CANDIDATES

CHIRAL = "C[C@H](O)[C@@H](N)CCOC(=O)/C=C/c1ccccc1"


def _energies(molecule, positions):
    mol = mol_with_conformers(molecule, positions)
    return minimise_mmff(mol, max_steps=1)[1]


def test_methyls_and_double_bonds_are_not_turned():
    mol = to_mol(molecule_from_smiles("CC/C=C/C#CCO"))
    assert {tuple(sorted(q[1:3])) for q in rotors(mol).tolist()} == {(1, 2), (6, 7)}
    assert len(rotors(to_mol(molecule_from_smiles("CC")))) == 0


def test_torsions_are_set_and_read_back():
    molecule = molecule_from_smiles("CCOCCN")
    mol = to_mol(molecule)
    start = embed(molecule, 1, seed=0)[0].astype(np.float64)
    quartets = rotors(mol)
    wanted = np.linspace(-150.0, 150.0, len(quartets))
    wanted[1] = np.nan
    turned = set_torsions(mol, start, quartets, wanted)
    before, after = get_torsions(mol, start, quartets), get_torsions(mol, turned, quartets)
    np.testing.assert_allclose(after, np.where(np.isnan(wanted), before, wanted), atol=1e-6)
    bonds = molecule.graph.bonds
    length = [np.linalg.norm(p[bonds[:, 0]] - p[bonds[:, 1]], axis=1) for p in (start, turned)]
    np.testing.assert_allclose(length[0], length[1], atol=1e-9)


def test_search_keeps_stereo_and_is_repeatable():
    molecule = molecule_from_smiles(CHIRAL)
    positions, energies = torsion_search(molecule, 12, seed=5)
    again, _ = torsion_search(molecule, 12, seed=5)
    other, _ = torsion_search(molecule, 12, seed=6)
    assert positions.shape == (12, molecule.graph.n_atoms, 3)
    assert stereo_ok(positions, molecule.graph).all()
    np.testing.assert_array_equal(positions, again)
    assert not np.array_equal(positions, other)
    minima, their_energies = torsion_minima(molecule, 12, seed=5)
    assert np.all(np.diff(their_energies) >= 0)
    np.testing.assert_array_equal(positions[: len(minima)], minima)
    assert np.ptp(energies) <= TorsionSettings().window


def test_molecule_without_centres_gives_mirror_images():
    molecule = molecule_from_smiles("OCCCCN")
    positions, energies = torsion_search(molecule, 9, seed=0)
    assert len(positions) == 9
    np.testing.assert_array_equal(positions[5:], -positions[:4])
    np.testing.assert_allclose(energies[5:], energies[:4])
    np.testing.assert_allclose(_energies(molecule, positions), energies, atol=0.1)


def test_search_finds_minima_that_etkdg_does_not():
    molecule = molecule_from_smiles("CCOC(=O)c1ccc(OCC)cc1C(=O)NC")
    minima, energies = torsion_minima(molecule, 60, seed=0)
    mol = mol_with_conformers(molecule, embed(molecule, 60, seed=0))
    _, theirs = minimise_mmff(mol, max_steps=500)
    low = theirs.min() + 6.0
    distinct = len(np.unique(np.round(theirs[theirs < low], 1)))
    assert len(np.unique(np.round(energies[energies < low], 1))) > 1.2 * distinct
    assert len(minima) == len(energies)


def test_molecules_without_rotors_or_parameters_give_their_seeds():
    for smiles, finite in (("C", True), ("c1ccccc1", True), ("OB(O)c1ccccc1", False)):
        positions, energies = torsion_search(molecule_from_smiles(smiles), 7, seed=0)
        assert len(positions) == 7
        assert bool(np.isfinite(energies).all()) is finite


def _likely(smiles, *, uniform=0.01):
    """Distributions of a molecule's torsions, by the atoms of the bond."""
    molecule = molecule_from_smiles(smiles)
    found = surroundings(molecule.graph, rotors(to_mol(molecule))[:, 1:3])
    p = shipped_library().distributions(found, uniform=uniform)
    numbers = molecule.graph.atomic_numbers[found.quartets]
    names = ["".join(ELEMENT_SYMBOLS[z] for z in row) for row in numbers]
    return {min(name, name[::-1]): values for name, values in zip(names, p, strict=True)}


def test_stereo_that_the_force_field_inverts_is_kept():
    molecule = molecule_from_smiles("O=S(=O)(/N=[S@@]1/N=S=NS1)C(F)(F)F")
    positions, energies = torsion_search(molecule, 4, seed=0)
    assert positions.shape == (4, molecule.graph.n_atoms, 3)
    assert np.isnan(energies).all()
    assert stereo_ok(positions, molecule.graph).all()


def test_library_knows_amides_and_chains():
    likely = _likely("CCNC(=O)CCC")
    assert likely["CNCO"][:3].sum() > 0.8  # trans: carbon beside oxygen
    assert likely["CCCC"][[*range(4, 8), *range(15, 18)]].sum() > 0.7  # gauche and anti
    np.testing.assert_allclose([p.sum() for p in likely.values()], 1.0)
    assert all(np.ptp(p) < 1e-12 for p in _likely("CCNC(=O)CCC", uniform=1.0).values())


def test_library_counts_draws_and_comes_back(tmp_path):
    molecule = molecule_from_smiles("OCCN")
    found = surroundings(molecule.graph, rotors(to_mol(molecule))[:, 1:3])
    degrees = np.array([[65.0] * len(found.quartets), [-175.0] * len(found.quartets)])
    library = count([(found, degrees, np.array([0.0, 60.0]))] * 5)
    for least, known in ((5, True), (6, False)):
        save_library(library, tmp_path / "l.npz", least=least)
        p = load_library(tmp_path / "l.npz").distributions(found, uniform=0.01)
        assert bool((p[:, 6] > 0.6).all()) is known
    drawn = draw(np.eye(18)[[6, 17]], 200, np.random.default_rng(0))
    np.testing.assert_array_equal(np.floor(np.abs(drawn) / 10.0), np.tile([6, 17], (200, 1)))
    assert 50 < (drawn[:, 0] > 0).sum() < 150


@pytest.mark.parametrize(("smiles", "embedded"), [("CCC1CCCCCCCCCCC1", 20), ("CCC1CCCCC1", 8)])
def test_macrocycles_are_embedded_more_often(smiles, embedded, monkeypatch):
    asked = []
    monkeypatch.setattr(torsion, "embed", lambda m, n, **options: asked.append(n) or embed(m, n, **options))
    torsion_minima(molecule_from_smiles(smiles), 20, seed=0, settings=TorsionSettings(pool=2, max_steps=1))
    assert asked == [embedded]


def test_settings_are_checked():
    for wrong in ({"pool": 0}, {"window": 0.0}, {"temperature": -1.0}, {"uniform": 0.0}, {"hold": -1.0}):
        with pytest.raises(InputError):
            TorsionSettings(**wrong)
    for wrong in (
        {"pairing": "random"},
        {"pairing": "relaxed", "mmff94s": False},
        {"pairing": "turned", "mmff94s": False},
    ):
        with pytest.raises(InputError, match="pairing"):
            SeedSettings(**wrong)


def test_relaxed_seeds_are_the_minima_of_their_references():
    molecule = molecule_from_smiles("CCCOC")
    rng = np.random.default_rng(0)
    references = embed(molecule, 4, seed=0) + rng.normal(0.0, 0.03, (4, molecule.graph.n_atoms, 3)).astype(np.float32)
    paired = with_seeds(ConformerSet(molecule=molecule, positions=references), SeedSettings(pairing="relaxed"), seed=0)
    assert np.all(_energies(molecule, paired.seeds) < _energies(molecule, references) - 0.3)
    assert np.sqrt(((paired.seeds - references) ** 2).sum(-1).mean(-1)).max() < 0.5


def test_turned_seeds_are_near_their_references_and_new_for_each_seed():
    molecule = molecule_from_smiles("C[C@H](O)CC(=O)NCCO")
    references = embed(molecule, 6, seed=0)
    mol = mol_with_conformers(molecule, references)
    minimise_mmff(mol, max_steps=500)
    references = np.array([c.GetPositions() for c in mol.GetConformers()], dtype=np.float32)
    conformers = ConformerSet(molecule=molecule, positions=references)
    turned, again, other = (
        with_seeds(conformers, SeedSettings(pairing="turned"), seed=seed).seeds for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(turned, again)
    assert np.abs(turned - other).max() > 0.1
    heavy = heavy_atoms(to_mol(molecule))
    off = np.sqrt(((turned - references)[:, heavy] ** 2).sum(-1).mean(-1))
    assert off.max() < 1.0
    assert off.mean() > 0.1  # the references are minima: unturned seeds are they
    assert stereo_ok(turned, molecule.graph).all()
    ring = molecule_from_smiles("C1CCCCC1")
    plain = ConformerSet(molecule=ring, positions=embed(ring, 2, seed=0))
    both = [with_seeds(plain, SeedSettings(pairing=p), seed=0).seeds for p in ("relaxed", "turned")]
    np.testing.assert_array_equal(*both)


def test_torsions_are_held_and_the_rest_is_minimised():
    molecule = molecule_from_smiles("COc1ccccc1C(=O)NCCO")
    mol = to_mol(molecule)
    quartets = rotors(mol)
    wanted = np.full((6, len(quartets)), 75.0) + 10.0 * np.arange(6)[:, None]
    seeds = embed(molecule, 1, seed=0).astype(np.float64)
    starts = np.array([set_torsions(mol, seeds[0], quartets, d) for d in wanted])

    def minimised(constant):
        mol = mol_with_conformers(molecule, starts)
        held = HeldTorsions(quartets=quartets, degrees=wanted, constant=constant)
        _, energies = minimise_mmff(mol, max_steps=500, held=held if constant else None)
        minima = np.array([c.GetPositions() for c in mol.GetConformers()])
        np.testing.assert_allclose(_energies(molecule, minima), energies, atol=1.0)
        degrees = np.array([get_torsions(mol, p, quartets) for p in minima])
        return energies, np.abs((degrees - wanted + 180.0) % 360.0 - 180.0)

    free, moved = minimised(0.0)
    weak, less = minimised(0.0005)
    firm, least = minimised(1.0)
    assert least.max() < 17.0 < moved.max()
    assert less.mean() < moved.mean()
    assert free.mean() <= weak.mean() <= firm.mean()
    assert np.all(firm < _energies(molecule, starts))


def test_relaxed_seeds_without_parameters_are_assigned():
    molecule = molecule_from_smiles("OB(O)c1ccccc1")
    references = embed(molecule, 2, seed=0)
    paired = with_seeds(ConformerSet(molecule=molecule, positions=references), SeedSettings(pairing="relaxed"), seed=0)
    assert np.isfinite(paired.seeds).all()


def test_candidates_are_converged():
    """The ranker reads their energies; a flexible molecule takes most of the iterations."""
    molecule = molecule_from_smiles("CCN(CC)CCOC(=O)C(CC(=O)NCCc1ccccc1)Cc1ccc(OC)cc1")
    found = torsion_minima(molecule, 16, seed=0, settings=CANDIDATES)[1]
    longer = torsion_minima(molecule, 16, seed=0, settings=replace(CANDIDATES, max_steps=4000))[1]
    assert len(found) == len(longer)
    assert np.abs(found - longer).max() < 0.3  # with 150 iterations, 17
