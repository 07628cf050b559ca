"""Small molecules, ensembles and models shared by the tests."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from conformergen.chem import embed, molecule_from_smiles
from conformergen.config import load_config
from conformergen.datasets.pairing import PairingSettings, with_starts
from conformergen.io.manifest import Manifest, write_manifest
from conformergen.io.shards import ShardEntry, write_shard
from conformergen.records import ConformerSet

ROOT = Path(__file__).parent.parent
#: Development data that is not part of the repository; tests that need it skip where it is absent.
SHARED = Path(os.environ.get("CONFORMERGEN_TEST_DATA", ROOT.parent / "shared" / "data"))
STEREO_SMILES = ("C[C@H](N)C(=O)O", "F/C=C/[C@@H](O)Cl", "CC[S@](=O)c1ccccc1")

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared():
    if not SHARED.is_dir():
        pytest.skip("development data are not here")
    return SHARED


@pytest.fixture(scope="session")
def ensembles():
    """Three molecules with embedded 'references' and paired starts."""
    sets = []
    for smiles in STEREO_SMILES:
        molecule = molecule_from_smiles(smiles, name=smiles)
        positions = embed(molecule, 4, seed=7)
        raw = ConformerSet(
            molecule=molecule,
            positions=positions - positions.mean(axis=1, keepdims=True),
            energies=np.arange(len(positions), dtype=np.float64),
            source_idx=np.arange(len(positions), dtype=np.int32),
        )
        sets.append(with_starts(raw, PairingSettings(min_starts=4), seed=1))
    return sets


@pytest.fixture(scope="session")
def shard_folder(ensembles, tmp_path_factory):
    """Folder of one shard: two molecules to train on, one to validate on."""
    folder = tmp_path_factory.mktemp("shards")
    splits = ("train", "train", "val")
    line = write_shard(
        folder / "shard-00000.h5", [ShardEntry(conformers=s, split=p) for s, p in zip(ensembles, splits, strict=True)]
    )
    configuration = {"starts": {"mmff94s": True, "min_starts": 4}}
    write_manifest(folder, Manifest(configuration=configuration, units=(replace(line, requested=3),)))
    return folder


@pytest.fixture(scope="session")
def tiny_config():
    return load_config(
        "tiny",
        None,
        ["training.steps=12", "training.warmup=2", "training.validate_every=6", "training.checkpoint_every=4",
         "training.log_every=4", "training.pair_budget=4000", "network.channels=16", "network.layers=2"],
    )  # fmt: skip


@pytest.fixture(scope="session")
def tiny_run(shard_folder, tiny_config, tmp_path_factory):
    """A finished training run of a very small network."""
    from conformergen.commands.train import train

    out = tmp_path_factory.mktemp("run") / "tiny"
    train([shard_folder], out, tiny_config, device="cpu")
    return out
