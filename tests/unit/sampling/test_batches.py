"""Tests of ``conformergen.sampling.batches``."""

import numpy as np

from conformergen.chem import molecule_from_smiles
from conformergen.sampling import SamplingJob, plan_batches
from conformergen.sampling.batches import noise_stream


def test_noise_is_keyed_by_conformer_alone():
    molecule = molecule_from_smiles("CCO")
    first = noise_stream(1, SamplingJob(molecule=molecule, conformer=0)).standard_normal(4)
    again = noise_stream(1, SamplingJob(molecule=molecule, conformer=0)).standard_normal(4)
    other = noise_stream(1, SamplingJob(molecule=molecule, conformer=1)).standard_normal(4)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_batches_respect_the_budget_and_hold_every_job():
    sizes = [5, 30, 8, 30, 100, 7]
    batches = plan_batches(sizes, 2000)
    assert sorted(i for b in batches for i in b) == list(range(6))
    assert all(len(b) == 1 or len(b) * max(sizes[i] for i in b) ** 2 <= 2000 for b in batches)
