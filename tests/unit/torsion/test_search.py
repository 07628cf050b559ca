"""Tests of ``conformergen.torsion.search``."""

import numpy as np
import pytest

from conformergen.checkpoint.folder import find_torsion_model
from conformergen.chem import (
    embed,
    minimise_mmff,
    mol_with_conformers,
    molecule_from_smiles,
)
from conformergen.datasets.pairing import PairingSettings
from conformergen.errors import InputError
from conformergen.torsion import (
    TorsionRestraint,
    TorsionSearchSettings,
    search,
    torsion_minima,
)

MODEL = find_torsion_model("default")


def test_search_finds_minima_that_etkdg_does_not():
    molecule = molecule_from_smiles("CCOC(=O)c1ccc(OCC)cc1C(=O)NC")
    minima = torsion_minima(molecule, 60, seed=0, model=MODEL)
    mol = mol_with_conformers(molecule, embed(molecule, 60, seed=0))
    _, theirs = minimise_mmff(mol, max_steps=500)
    low = theirs.min() + 6.0
    distinct = len(np.unique(np.round(theirs[theirs < low], 1)))
    assert len(np.unique(np.round(minima.energies[minima.energies < low], 1))) > 1.2 * distinct


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
