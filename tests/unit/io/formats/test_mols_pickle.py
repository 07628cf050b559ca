"""Tests of ``conformergen.io.formats.mols_pickle``."""

import pickle

import pytest

from conformergen.errors import InputError
from conformergen.io.formats import read_ensembles


def test_hostile_or_foreign_pickles_are_one_line(sample_files, tmp_path):
    bad = {"code.pkl": b"cos\nsystem\n(S'true'\ntR.", "list.pkl": pickle.dumps([1, 2]), "torn.pkl": b"\x80\x04"}
    for name, content in bad.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=name):
            read_ensembles(tmp_path / name)
