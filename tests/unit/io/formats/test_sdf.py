"""Tests of ``conformergen.io.formats.sdf``."""

import io

import numpy as np
from rdkit import Chem

from conformergen.io.formats import Provenance
from conformergen.io.formats.sdf import SdfWriter, read, sdf_text

NETWORKS = {"denoiser": "a" * 64, "ranker": "b" * 64, "torsion_model": "c" * 64}


def test_records_name_the_digest_of_every_network(ensembles):
    text = sdf_text(ensembles[0], Provenance(seed=7, model="m:1", settings="rounds=3", networks=NETWORKS))
    mol = next(iter(Chem.ForwardSDMolSupplier(io.BytesIO(text.encode()), removeHs=False)))
    for role, digest in NETWORKS.items():
        assert f"{role}={digest[:16]}" in mol.GetProp("model_digests")
    assert (mol.GetProp("seed"), mol.GetProp("model"), mol.GetProp("settings")) == ("7", "m:1", "rounds=3")


def test_file_that_was_written_is_read_back(ensembles, tmp_path):
    writer = SdfWriter(tmp_path / "a.sdf")
    for conformers in ensembles:
        writer.write(conformers, Provenance(seed=0, model="test"))
    writer.close()
    found = list(read(tmp_path / "a.sdf"))
    assert [raw.smiles for raw in found] == [s.molecule.smiles for s in ensembles]
    positions = found[0].conformers[2].GetConformer().GetPositions()
    np.testing.assert_allclose(positions, ensembles[0].positions[2], atol=1e-3)


def test_titles_of_earlier_versions_are_read(tmp_path):
    """Records with the property ``rung`` of version 0.1 are read as any others."""
    block = Chem.MolToMolBlock(Chem.AddHs(Chem.MolFromSmiles("C")))
    (tmp_path / "old.sdf").write_text(f"{block}>  <conformergen_smiles>\nC\n\n>  <rung>\nas asked\n\n$$$$\n")
    assert [raw.smiles for raw in read(tmp_path / "old.sdf")] == ["C"]
