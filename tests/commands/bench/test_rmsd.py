"""Tests of ``conformergen.commands.bench.rmsd``."""

from conformergen.commands.bench.rmsd import conformers, usual


def test_comparisons_name_their_peers():
    assert conformers("CCO", 3).GetNumConformers() == 3
    assert all(comparison.peers for comparison in usual())
