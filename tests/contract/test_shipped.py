"""What the project ships: data sets and the default checkpoint."""

import csv
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from e3nn import o3
from rdkit import Chem
from rdkit.Chem.Scaffolds import MurckoScaffold

import conformergen
from conformergen.checkpoint.folder import resolve
from conformergen.checkpoint.model import load_model
from conformergen.datasets.collate import collate_graphs, molecule_tables, pad_positions
from conformergen.datasets.exclusion import connectivity_key
from conformergen.geometry.graph import bonds_kept
from conformergen.geometry.stereo import stereo_ok
from conformergen.io.shards import SPLITS, read_arrays, read_folder

DATA = Path(__file__).parents[2] / "data"


BUNDLED = DATA / "reference-mini"


TRAINING = [DATA / "training" / name for name in ("molecules.smi", "further.smi")]


@pytest.fixture(scope="module")
def listed():
    lines = [line.split() for path in TRAINING for line in path.read_text().splitlines()]
    return {name: smiles for smiles, name in lines}


def _scaffold(smiles):
    return MurckoScaffold.MurckoScaffoldSmiles(mol=Chem.MolFromSmiles(smiles), includeChirality=False)


def _kept_out(shared):
    """SMILES of the published test list and of the validation excerpt."""
    found = []
    for path in (shared / "smiles" / "geom_drugs_test_list.csv", shared / "geom_drugs_excerpt" / "index.csv"):
        with path.open() as file:
            found += [row["smiles"] for row in csv.DictReader(file)]
    return found


#: Folder, a number of molecules that it has more than, and N where every N-th molecule is looked at.
TRAINING_SETS = (
    ("singles", 800, 3),
    ("ensembles", 500, 3),
    ("complete", 39, 1),
    ("single-points", 2000, 10),
    ("optimised", 1200, 3),
    ("candidates", 1200, 3),
    ("minima", 800, 3),
    ("samples", 1200, 3),
    ("gfnff", 2000, 10),
)


def test_reference_set_is_whole_and_sound():
    sets = list(read_folder(BUNDLED))
    assert len(sets) >= 40
    assert len(list(read_folder(BUNDLED, split="test"))) == 10
    stats = {b["name"]: b for b in json.loads((BUNDLED / "search_stats.json").read_text())}
    for conformers in sets:
        graph = conformers.molecule.graph
        assert 10 <= (graph.atomic_numbers > 1).sum() <= 30
        assert stereo_ok(conformers.positions, graph).all()
        assert bonds_kept(conformers.positions, graph).all()
        assert conformers.energies is not None
        assert 0.0 == conformers.energies.min() <= conformers.energies.max() <= 6.0
        assert abs(conformers.weights.sum() - 1.0) < 1e-5
        assert stats[conformers.molecule.name]["counts"]["final"] == len(conformers)


def test_reference_set_holds_no_molecule_of_the_published_test_list(shared):
    with (shared / "smiles" / "geom_drugs_test_list.csv").open() as file:
        listed = {connectivity_key(row["smiles"]) for row in csv.DictReader(file)}
    assert not listed & {connectivity_key(s.molecule.smiles) for s in read_folder(BUNDLED)}


def test_training_molecules_are_apart_from_every_test_molecule(shared):
    """By connectivity and by Murcko scaffold, against the published test list and the validation excerpt."""
    kept_out = _kept_out(shared)
    ours = [line.split()[0] for path in TRAINING for line in path.read_text().splitlines()]
    assert len(ours) == len({connectivity_key(s) for s in ours}) == 9000
    assert not {connectivity_key(s) for s in kept_out} & {connectivity_key(s) for s in ours}
    assert not {_scaffold(s) for s in kept_out} & {_scaffold(s) for s in ours}


def test_searched_molecules_are_apart_from_every_test_molecule(shared):
    """By connectivity and, where there is more than a benzene ring, by scaffold."""
    searched = [
        s
        for p in sorted((DATA / "training" / "searched-torsions").glob("*.npz"))
        for s in np.load(p)["smiles"].tolist()
    ]
    assert len(searched) > 3000
    keys = {connectivity_key(s) for s in searched}
    complete = {connectivity_key(s.molecule.smiles) for s in read_folder(DATA / "training" / "complete")}
    assert not keys & {connectivity_key(s) for s in _kept_out(shared)}
    assert not keys & complete
    assert not ({_scaffold(s) for s in _kept_out(shared)} - {"", "c1ccccc1"}) & {_scaffold(s) for s in searched}


def test_default_checkpoint_is_small_and_exactly_equivariant(ensembles):
    assert sum(p.stat().st_size for p in resolve("default").iterdir()) < 20e6
    network = load_model().network
    assert network.branches() == []
    graph = collate_graphs([molecule_tables(s.molecule) for s in ensembles])
    x = pad_positions([s.positions[0] for s in ensembles], graph.mask.shape[1])
    noise_level, rotation = torch.zeros(len(x)), o3.rand_matrix()
    y = network(graph, x, noise_level)
    assert (network(graph, x @ rotation.T, noise_level) - y @ rotation.T).abs().max() < 1e-5 * y.abs().max()


def test_default_model_gives_sane_geometry():
    mol = conformergen.generate("C[C@H](N)C(=O)Nc1ccccc1", n=4)
    assert mol.GetNumConformers() == 4
    for conformer in mol.GetConformers():
        single = Chem.Mol(mol, confId=conformer.GetId())
        lengths = Chem.Get3DDistanceMatrix(single)
        for bond in single.GetBonds():
            assert 0.85 < lengths[bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()] < 1.7


@pytest.mark.parametrize(("folder", "least", "every"), TRAINING_SETS)
def test_training_sets_come_from_the_listed_molecules(listed, folder, least, every):
    sets = list(read_folder(DATA / "training" / folder))
    assert len(sets) > least
    if folder.endswith(("ensembles", "complete")):
        assert all(s.energies is not None and s.energies.max() <= 6.0 for s in sets)
    if not folder.endswith("singles"):
        assert all(s.energies is not None for s in sets)
    if folder != "single-points":
        assert all(s.starts is not None for s in sets)
    for conformers in sets[::every]:
        assert connectivity_key(conformers.molecule.smiles) == connectivity_key(listed[conformers.molecule.name])
        assert bonds_kept(conformers.positions, conformers.molecule.graph).all()
        assert stereo_ok(conformers.positions, conformers.molecule.graph).all()


def test_complete_ensembles_are_of_molecules_that_nothing_was_trained_on():
    """By the names of the molecules; other tests show that names stand for different connectivities."""

    def names(folder, *splits):
        found = set()
        for path in (DATA / "training" / folder).glob("*.h5"):
            arrays = read_arrays(path)
            text, offsets = arrays["names"].tobytes(), arrays["names_offsets"].tolist()
            each = [text[i:j].decode() for i, j in itertools.pairwise(offsets)]
            found |= {n for n, split in zip(each, arrays["split"], strict=True) if SPLITS[split] in splits}
        return found

    complete = names("complete", *SPLITS)
    assert len(complete) == 41
    for folder, *_ in TRAINING_SETS:
        if folder not in ("gfnff", "complete"):
            assert not names(folder, "train") & complete, folder


def test_no_training_set_is_left_unchecked():
    assert {path.parent for path in DATA.rglob("*.h5")} - {BUNDLED} == {
        DATA / "training" / folder for folder, *_ in TRAINING_SETS
    }
