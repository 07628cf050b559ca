"""Tests of ``conformergen.datasets.splits``."""

import numpy as np
import pytest

from conformergen.chem import molecule_from_smiles
from conformergen.datasets.splits import file_split, random_split, scaffold_split
from conformergen.errors import InputError


def test_split_file_in_both_formats(tmp_path):
    parts = [np.array([0, 3]), np.array([1]), np.array([2])]
    ragged = np.empty(3, dtype=object)
    ragged[:] = parts
    np.save(tmp_path / "split0.npy", ragged, allow_pickle=True)
    np.savez(tmp_path / "split.npz", train=parts[0], val=parts[1], test=parts[2])
    for name in ("split0.npy", "split.npz"):
        split = file_split(tmp_path / name)
        molecule = molecule_from_smiles("C")
        assert [split(molecule, i) for i in range(4)] == ["train", "val", "test", "train"]
        with pytest.raises(InputError):
            split(molecule, 9)


def test_random_split_keeps_isomers_together_and_scaffolds_too():
    left, right = molecule_from_smiles("C[C@H](N)C(=O)O"), molecule_from_smiles("C[C@@H](N)C(=O)O")
    assert random_split(left, 0) == random_split(right, 5)
    a, b = molecule_from_smiles("Cc1ccc2ccccc2c1"), molecule_from_smiles("OCc1ccc2ccccc2c1")
    assert scaffold_split(a, 0) == scaffold_split(b, 0)
