"""Tests of ``conformergen.runtime.workers``."""

import pytest

from conformergen.errors import MoleculeError
from conformergen.runtime.workers import Mapper, Workers, map_molecules, memory_limit, resolve_jobs


def test_results_come_in_order_from_any_number_of_processes():
    for jobs in (1, 2):
        assert list(map_molecules(abs, range(-20, 0), jobs=jobs)) == list(range(20, 0, -1))


def test_error_of_a_molecule_is_its_result():
    results = list(map_molecules(int, ["1", "x", "3"], jobs=1))
    assert results[0] == 1
    assert results[2] == 3
    assert isinstance(results[1], MoleculeError)


def test_items_are_read_only_as_far_ahead_as_asked():
    read = []

    def items():
        for i in range(50):
            read.append(i)
            yield i

    with Workers(1) as workers:
        assert isinstance(workers, Mapper)
        results = workers.map(abs, items(), ahead=4)
        next(iter(results))
        assert len(read) <= 10


def test_jobs_and_memory_are_resolved():
    assert resolve_jobs(3) == 3
    assert resolve_jobs(0) >= 1
    assert memory_limit(2) > 0
    with pytest.raises(Exception):  # noqa: B017, PT011
        resolve_jobs(-1)
