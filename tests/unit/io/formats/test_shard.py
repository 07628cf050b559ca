"""Tests of ``conformergen.io.formats.shard``."""

import numpy as np

from conformergen.io.formats import Provenance
from conformergen.io.formats.shard import ShardWriter, read


def test_shard_that_was_written_is_read_back(ensembles, tmp_path):
    writer = ShardWriter(tmp_path / "a.h5")
    for conformers in ensembles:
        writer.write(conformers, Provenance(seed=0, model="test"))
    writer.close()
    found = list(read(tmp_path / "a.h5"))
    assert [raw.smiles for raw in found] == [s.molecule.smiles for s in ensembles]
    np.testing.assert_array_equal(
        found[0].conformers[1].GetConformer().GetPositions().astype(np.float32), ensembles[0].positions[1]
    )


def test_shards_of_earlier_versions_are_read(shard_folder):
    """Start structures are in the array ``seeds``, as in version 0.1."""
    from conformergen.io.shards import read_arrays, read_folder

    assert "seeds" in read_arrays(next(shard_folder.glob("*.h5")))
    assert all(s.starts is not None for s in read_folder(shard_folder))
