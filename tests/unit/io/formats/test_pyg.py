"""Tests of ``conformergen.io.formats.pyg``."""

import pickle

import numpy as np
import torch
from rdkit import Chem
from support import EXCHANGED, etflow_items, positions_of
from torch_geometric.data import Data

from conformergen.io.formats import read_ensembles
from conformergen.io.formats.pyg import to_pyg


def test_data_sets_of_one_conformer_each_are_joined_and_pt_is_read(exchanged, tmp_path):
    ref = exchanged[0][0]
    items = [
        Data(
            pos=torch.from_numpy(p), rdmol=Chem.Mol(ref, confId=0), smiles=EXCHANGED[0], totalenergy=torch.tensor([1.0])
        )
        for p in positions_of(ref)
    ]
    (tmp_path / "train_data_1k.pkl").write_bytes(pickle.dumps(items))
    (joined,) = read_ensembles(tmp_path / "train_data_1k.pkl")
    assert len(joined.conformers) == 3
    torch.save(
        Data(pos=torch.from_numpy(positions_of(ref)), smiles=etflow_items(exchanged)[0].smiles), tmp_path / "m.pt"
    )
    (one,) = read_ensembles(tmp_path / "m.pt")
    np.testing.assert_allclose(one.conformers[1].GetConformer().GetPositions(), positions_of(ref)[1], atol=1e-6)
    assert Chem.CanonSmiles(one.smiles) == Chem.CanonSmiles(EXCHANGED[0])


def test_to_pyg_has_the_published_fields(ensembles):
    data = to_pyg(ensembles[0])
    assert len(data) == len(ensembles[0])
    assert data[0].edge_index.shape[1] == 2 * len(ensembles[0].molecule.graph.bonds)
    assert torch.equal(data[1].pos, torch.from_numpy(ensembles[0].positions[1]))
