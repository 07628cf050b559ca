"""Tests of ``conformergen.commands.train_torsions``."""

import numpy as np
import pytest

from conformergen.checkpoint.folder import SETTINGS, TORSION_MODEL, find_torsion_model
from conformergen.checkpoint.model import load_model
from conformergen.chem import embed, molecule_from_smiles
from conformergen.commands.export import export
from conformergen.commands.train_torsions import fit_torsion_model, load_initial
from conformergen.errors import InputError
from conformergen.training.torsion_data import torsion_set, write_torsion_sets
from conformergen.training.torsion_model import TorsionModelSettings

SIZE = {"channels": 16, "atom_layers": 1, "torsion_layers": 1, "heads": 4}


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """Files of searched molecules, some of which are held out."""
    folder = tmp_path_factory.mktemp("torsions") / "candidates"
    folder.mkdir()
    sets = []
    for n in range(2, 9):
        for end in "NOS":
            molecule = molecule_from_smiles("C" * n + end)
            positions = embed(molecule, 3, seed=0)
            if (found := torsion_set(molecule, positions, np.arange(3.0))) is not None:
                sets.append(found)
    assert {s.held_out for s in sets} == {True, False}
    write_torsion_sets(folder / "000000.npz", sets)
    return folder


def test_trained_torsion_model_travels_with_an_exported_model(searched, tiny_run, tmp_path):
    settings = TorsionModelSettings(**SIZE, steps=6, warmup=1, molecules=4, report_every=3)
    seen = []
    quality = fit_torsion_model([searched], tmp_path / "torsions", settings, report=seen.append)
    assert [q.step for q in seen] == [3, 6]
    assert quality.given == min(q.given for q in seen)
    assert {p.name for p in (tmp_path / "torsions").iterdir()} >= {TORSION_MODEL, SETTINGS, "digest.json"}
    export(str(tiny_run), tmp_path / "model", exact=False, torsion_model=tmp_path / "torsions")
    model = load_model(tmp_path / "model")
    assert model.digests["torsion_model"] != find_torsion_model("default").digest
    ours, written = model.torsion_model.load().weights, load_initial(str(tmp_path / "torsions")).weights
    assert all(np.array_equal(ours[name], written[name]) for name in written)
    with pytest.raises(InputError, match="exists"):
        fit_torsion_model([searched], tmp_path / "torsions", settings)


def test_training_continues_from_other_weights(searched, tmp_path):
    settings = TorsionModelSettings(**SIZE, steps=2, warmup=0, molecules=2, report_every=2)
    fit_torsion_model([searched], tmp_path / "first", settings)
    quality = fit_torsion_model([searched], tmp_path / "second", settings, init=str(tmp_path / "first"))
    assert quality.step == 2
    first, second = (load_initial(str(tmp_path / name)).weights for name in ("first", "second"))
    assert first.keys() == second.keys()
