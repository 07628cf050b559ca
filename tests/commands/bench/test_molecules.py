"""Tests of ``conformergen.commands.bench.molecules``."""

from rdkit import Chem

from conformergen.commands.bench.molecules import DRUGS


def test_drugs_are_unique_and_parse():
    assert len({Chem.CanonSmiles(s) for s in DRUGS}) == len(DRUGS)
