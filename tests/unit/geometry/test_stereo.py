"""Tests of ``conformergen.geometry.stereo``."""

import pytest

from conformergen.chem import embed, molecule_from_smiles
from conformergen.geometry.stereo import stereo_ok


@pytest.mark.parametrize(
    "smiles",
    ["C[C@H](N)C(=O)O", "C[C@@H](N)C(=O)O", "F/C=C/Cl", "F/C=C\\Cl", "CC[S@](=O)C",
     "C[C@H]1CC[C@@H](O)CC1", "C[P@](=O)(O)c1ccccc1"],
)  # fmt: skip
def test_stereo_from_coordinates(smiles):
    molecule = molecule_from_smiles(smiles)
    positions = embed(molecule, 3, seed=0)
    assert stereo_ok(positions, molecule.graph).all()
    if len(molecule.graph.centres):
        assert not stereo_ok(-positions, molecule.graph).any()
