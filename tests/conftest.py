"""Small molecules, ensembles and models shared by the tests."""

import json
import os
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rdkit import Chem
from support import EXCHANGED, with_made_up_energies

from conformergen.chem import embed, mol_with_conformers, molecule_from_smiles
from conformergen.config import load_config
from conformergen.datasets.pairing import PairingSettings, with_starts
from conformergen.io.manifest import Manifest, write_manifest
from conformergen.io.shards import ShardEntry, write_shard
from conformergen.records import ConformerSet
from conformergen.training.ranking_data import with_baseline

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


@pytest.fixture(scope="session")
def ranked_sets():
    """Molecules whose made-up energies a ranker can learn."""
    return [with_baseline(with_made_up_energies(s)) for s in ("NCCCO", "NCCCCO", "CNCCOC", "OCCCN", "C[C@H](N)CCO")]


@pytest.fixture(scope="session")
def exchanged():
    """Mol with references and mol with samples, for each EXCHANGED."""
    made = []
    for smiles in EXCHANGED:
        molecule = molecule_from_smiles(smiles, smiles)
        made.append([mol_with_conformers(molecule, embed(molecule, n, seed=n)) for n in (3, 6)])
    return made


@pytest.fixture
def geom_folder(tmp_path):
    """GEOM layout: two good conformers, one in another atom order, one reacted, one mirror image."""
    folder = tmp_path / "rdkit_folder"
    (folder / "drugs").mkdir(parents=True)
    molecule = molecule_from_smiles("C[C@H](N)C(=O)O")
    positions = embed(molecule, 3, seed=0)
    mols = [mol_with_conformers(molecule, p[None]) for p in positions]
    mols[1] = Chem.RenumberAtoms(mols[1], list(reversed(range(mols[1].GetNumAtoms()))))
    isomer = molecule_from_smiles("NCCC(=O)O")
    mols.append(mol_with_conformers(isomer, embed(isomer, 1, seed=0)))
    mols.append(mol_with_conformers(molecule, -positions[:1]))
    records = [
        {"rd_mol": m, "relativeenergy": float(5 - i), "boltzmannweight": 0.2, "geom_id": i} for i, m in enumerate(mols)
    ]
    content = {"smiles": molecule.smiles, "totalconfs": np.int64(5), "conformers": records}
    (folder / "drugs" / "a.pickle").write_bytes(pickle.dumps(content))
    summary = {molecule.smiles: {"pickle_path": "drugs/a.pickle"}, "CCO": {"charge": 0}}
    (folder / "summary_drugs.json").write_text(json.dumps(summary))
    return folder


@pytest.fixture(scope="session")
def ranked_model(ranked_sets, tiny_run, tmp_path_factory):
    """A model with a ranker."""
    from conformergen.checkpoint.model import load_model
    from conformergen.commands.export import export
    from conformergen.commands.train_ranker import fit_ranker
    from conformergen.training.ranker import RankingSettings

    folder = tmp_path_factory.mktemp("ranked")
    write_shard(folder / "part.h5", [ShardEntry(conformers=s.conformers, split="train") for s in ranked_sets])
    settings = RankingSettings(steps=4, warmup=1)
    fit_ranker([folder / "part.h5"], folder / "ranker", settings, init=str(tiny_run), device="cpu")
    export(str(tiny_run), folder / "model", exact=False, ranker=folder / "ranker")
    return load_model(folder / "model")


@pytest.fixture(scope="session")
def sample_files(tmp_path_factory):
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
