"""Tests of ``conformergen.io.formats.mols_pickle``."""

import pickle

import pytest
from rdkit import Chem

from conformergen.chem import embed, mol_with_conformers, molecule_from_smiles
from conformergen.errors import InputError
from conformergen.io.formats import read_ensembles


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """References and two sets of samples of two molecules, as SDF and as pickle."""
    folder = tmp_path_factory.mktemp("sets")
    molecules = [molecule_from_smiles(s, name=s) for s in ("CCCCO", "C[C@H](N)CC")]
    for name, seed in (("ref", 1), ("a", 2), ("b", 3)):
        mols = {}
        with Chem.SDWriter(str(folder / f"{name}.sdf")) as writer:
            for molecule in molecules:
                mol = mol_with_conformers(molecule, embed(molecule, 4, seed=seed))
                mol.SetProp("_Name", molecule.name)
                mol.SetProp("SMILES", molecule.smiles)
                single = [Chem.Mol(mol, confId=c.GetId()) for c in mol.GetConformers()]
                mols[molecule.smiles] = single
                for one in single:
                    writer.write(one)
        (folder / f"{name}.pkl").write_bytes(pickle.dumps(mols))
    return folder


def test_hostile_or_foreign_pickles_are_one_line(sets, tmp_path):
    bad = {"code.pkl": b"cos\nsystem\n(S'true'\ntR.", "list.pkl": pickle.dumps([1, 2]), "torn.pkl": b"\x80\x04"}
    for name, content in bad.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=name):
            read_ensembles(tmp_path / name)
