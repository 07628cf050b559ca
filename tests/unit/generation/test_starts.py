"""Tests of ``conformergen.generation.starts``."""

from dataclasses import replace

import numpy as np
import pytest
from support import input_records, run_pipeline

from conformergen.checkpoint.folder import find_torsion_model
from conformergen.chem import (
    minimise_mmff,
    mol_with_conformers,
    molecule_from_smiles,
)
from conformergen.generation.settings import GenerateSettings
from conformergen.generation.starts import CANDIDATES
from conformergen.geometry.stereo import stereo_ok
from conformergen.io.inputs import InputRecord
from conformergen.refinement import xtb
from conformergen.torsion import (
    TorsionSearchSettings,
    torsion_minima,
)

needs_xtb = pytest.mark.skipif(not xtb.available(), reason="the xtb program is not installed")


BUTANOL = "CCCCO"


MODEL = find_torsion_model("default")


CHIRAL = "C[C@H](O)[C@@H](N)CCOC(=O)/C=C/c1ccccc1"


def _search(smiles, n, seed):
    """Conformers of the method ``torsion+mmff94s``."""
    [conformers], _ = run_pipeline(GenerateSettings(n=n, method="torsion+mmff94s", seed=seed), input_records(smiles))
    return conformers


def _energies(molecule, positions):
    mol = mol_with_conformers(molecule, positions)
    return minimise_mmff(mol, max_steps=1)[1]


@needs_xtb
def test_search_is_a_generator():
    records = [InputRecord(index=0, smiles=BUTANOL, name="butanol")]
    sets = {}
    for select in ("lowest", "diverse"):
        settings = GenerateSettings(n=5, method="gfnff", select=select)
        [conformers], summary = run_pipeline(settings, records)
        assert summary.done == 1
        assert conformers.energy_method == "gfn-ff"
        assert len(conformers) == 5
        sets[select] = conformers
    assert np.all(np.diff(sets["lowest"].energies) >= 0)
    assert sets["lowest"].energies[-1] <= sets["diverse"].energies.max()


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


def test_molecules_without_torsions_or_parameters_give_their_embeddings():
    for smiles, finite in (("C", True), ("c1ccccc1", True), ("OB(O)c1ccccc1", False)):
        found = _search(smiles, 7, seed=0)
        assert len(found) == 7
        assert (found.energies is not None) is finite


def test_stereo_that_the_force_field_inverts_is_kept():
    found = _search("O=S(=O)(/N=[S@@]1/N=S=NS1)C(F)(F)F", 4, seed=0)
    assert len(found) == 4
    assert found.energies is None
    assert stereo_ok(found.positions, found.molecule.graph).all()


def test_candidates_are_converged():
    """The ranker reads their energies; a flexible molecule takes most of the iterations."""
    molecule = molecule_from_smiles("CCN(CC)CCOC(=O)C(CC(=O)NCCc1ccccc1)Cc1ccc(OC)cc1")
    found = torsion_minima(molecule, 16, seed=0, settings=CANDIDATES, model=MODEL).energies
    longer = replace(CANDIDATES, max_steps=4000)
    longer = torsion_minima(molecule, 16, seed=0, settings=longer, model=MODEL).energies
    assert len(found) == len(longer)
    assert np.abs(found - longer).max() < 0.3  # with 150 iterations, 17
