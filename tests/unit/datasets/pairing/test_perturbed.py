"""Tests of ``conformergen.datasets.pairing.perturbed``."""

import numpy as np

from conformergen.chem import (
    embed,
    heavy_atoms,
    minimise_mmff,
    mol_with_conformers,
    molecule_from_smiles,
    to_mol,
)
from conformergen.datasets.pairing import PairingSettings, with_starts
from conformergen.geometry.stereo import stereo_ok
from conformergen.records import ConformerSet


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
