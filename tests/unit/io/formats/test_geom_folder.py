"""Tests of ``conformergen.io.formats.geom_folder``."""

import numpy as np

from conformergen.io.formats import Provenance
from conformergen.io.formats.geom_folder import GeomFolderWriter, find_summaries, read


def test_folder_that_was_written_is_read_back(ensembles, tmp_path):
    writer = GeomFolderWriter(tmp_path / "rdkit_folder")
    for conformers in ensembles:
        writer.write(conformers, Provenance(seed=0, model="test"))
    writer.close()
    assert find_summaries(tmp_path / "rdkit_folder")
    found = {raw.smiles: raw for raw in read(tmp_path / "rdkit_folder")}
    for conformers in ensembles:
        raw = found[conformers.molecule.smiles]
        assert len(raw.conformers) == len(conformers)
        np.testing.assert_allclose(raw.conformers[1].GetConformer().GetPositions(), conformers.positions[1], atol=1e-4)


def test_folder_without_its_summary_is_not_taken_for_one(ensembles, tmp_path):
    writer = GeomFolderWriter(tmp_path / "rdkit_folder")
    writer.write(ensembles[0], Provenance(seed=0, model="test"))
    writer.discard()
    assert not find_summaries(tmp_path / "rdkit_folder")
