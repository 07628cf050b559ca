"""Files of other generators and evaluators: read safely, written so that they are read."""

import io
import pickle

import numpy as np
import pytest
import torch
from rdkit import Chem
from torch_geometric.data import Data
from typer.testing import CliRunner

from conformergen.chem import embed, mol_with_conformers, molecule_from_smiles
from conformergen.cli import app
from conformergen.commands.evaluate import evaluate
from conformergen.errors import InputError
from conformergen.evaluation.metrics import METRICS
from conformergen.io.formats import READERS, detect_format, read_ensembles

SMILES = ("C[C@H](N)CC(=O)[O-]", "OC/C=C/c1ccccc1")


@pytest.fixture(scope="module")
def molecules():
    """Mol with references and mol with samples, for each SMILES."""
    made = []
    for smiles in SMILES:
        molecule = molecule_from_smiles(smiles, smiles)
        made.append([mol_with_conformers(molecule, embed(molecule, n, seed=n)) for n in (3, 6)])
    return made


def _positions(mol):
    return np.array([c.GetPositions() for c in mol.GetConformers()], dtype=np.float32)


@pytest.fixture(scope="module")
def plain(molecules, tmp_path_factory):
    """The same as two SDF files, and their scores."""
    folder = tmp_path_factory.mktemp("plain")
    for side, name in enumerate(("ref", "gen")):
        with Chem.SDWriter(str(folder / f"{name}.sdf")) as writer:
            for smiles, pair in zip(SMILES, molecules, strict=True):
                pair[side].SetProp("_Name", smiles)
                pair[side].SetProp("SMILES", smiles)
                for conformer in pair[side].GetConformers():
                    writer.write(pair[side], confId=conformer.GetId())
    return folder, evaluate(folder / "gen.sdf", folder / "ref.sdf").report


def _geodiff(molecules, *, old=False):
    """``samples_all.pkl`` as GeoDiff writes it; ``old``: as PyG before version 2 kept attributes."""
    items = []
    for smiles, (ref, gen) in zip(SMILES, molecules, strict=True):
        data = Data(
            atom_type=torch.tensor([a.GetAtomicNum() for a in ref.GetAtoms()]),
            edge_index=torch.zeros(2, 0, dtype=torch.long),
            rdmol=Chem.Mol(ref, confId=0),
            smiles=smiles,
            pos_ref=torch.from_numpy(_positions(ref).reshape(-1, 3)),
            num_pos_ref=torch.tensor([3]),
            pos_gen=torch.from_numpy(_positions(gen).reshape(-1, 3)),
        )
        if old:
            attributes = dict(data._store._mapping)
            data.__dict__.clear()
            data.__dict__.update(attributes)
        items.append(data)
    return items


def _etflow(molecules):
    items = []
    for ref, gen in molecules:
        mapped = Chem.Mol(ref)
        for atom in mapped.GetAtoms():
            atom.SetAtomMapNum(atom.GetIdx() + 1)
        items.append(
            Data(
                smiles=Chem.MolToSmiles(mapped),
                pos_ref=torch.from_numpy(_positions(ref)),
                pos_gen=_positions(gen).astype(np.float64),
            )
        )
    return items


class _OldData:
    """Stands for ``Data`` of PyG 1: its pickle holds the attributes themselves."""


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_files_of_geodiff_and_etflow_score_alike(molecules, plain, tmp_path, protocol):
    """Samples and references come from one file, without torch or PyG in the reader's process."""
    for name, items in (("geodiff", _geodiff(molecules)), ("etflow", _etflow(molecules))):
        path = tmp_path / f"{name}.pkl"
        path.write_bytes(pickle.dumps(items, protocol=protocol))
        report = evaluate(path).report
        assert (report["n_references"], report["n_samples"], report["n_scored"]) == (6, 12, 2)
        for metric in METRICS:
            expected = plain[1]["rows"]["0.75"][metric]["mean"]
            assert report["rows"]["0.75"][metric]["mean"] == pytest.approx(expected, abs=1e-3)


def test_pickles_of_old_pyg_are_read(molecules, tmp_path):
    data = pickle.dumps(_geodiff(molecules), protocol=4)
    items = []
    for item in _geodiff(molecules):
        old = _OldData()
        old.__dict__.update(item._store._mapping)
        items.append(old)
    text = pickle.dumps(items, protocol=2).replace(
        f"c{_OldData.__module__}\n_OldData\n".encode(), b"ctorch_geometric.data.data\nData\n"
    )
    assert b"_OldData" not in text
    for name, content in (("new", data), ("old", text)):
        (tmp_path / f"{name}.pkl").write_bytes(content)
    new, old = (list(read_ensembles(tmp_path / f"{name}.pkl")) for name in ("new", "old"))
    assert [r.smiles for r in old] == list(SMILES)
    np.testing.assert_array_equal(
        old[1].conformers[2].GetConformer().GetPositions(), new[1].conformers[2].GetConformer().GetPositions()
    )


def test_data_sets_of_one_conformer_each_are_joined_and_pt_is_read(molecules, tmp_path):
    ref = molecules[0][0]
    items = [
        Data(pos=torch.from_numpy(p), rdmol=Chem.Mol(ref, confId=0), smiles=SMILES[0], totalenergy=torch.tensor([1.0]))
        for p in _positions(ref)
    ]
    (tmp_path / "train_data_1k.pkl").write_bytes(pickle.dumps(items))
    (joined,) = read_ensembles(tmp_path / "train_data_1k.pkl")
    assert len(joined.conformers) == 3
    torch.save(Data(pos=torch.from_numpy(_positions(ref)), smiles=_etflow(molecules)[0].smiles), tmp_path / "m.pt")
    (one,) = read_ensembles(tmp_path / "m.pt")
    np.testing.assert_allclose(one.conformers[1].GetConformer().GetPositions(), _positions(ref)[1], atol=1e-6)
    assert Chem.CanonSmiles(one.smiles) == Chem.CanonSmiles(SMILES[0])


@pytest.mark.parametrize("kind", ["long", "stride", "class", "archive", "positions"])
def test_forged_tensors_and_objects_are_refused(molecules, tmp_path, kind):
    good = pickle.dumps(_geodiff(molecules), protocol=2)
    path = tmp_path / "bad.pkl"
    if kind == "class":
        path.write_bytes(good.replace(b"torch_geometric.data.data\nData", b"subprocess\nPopen"))
    elif kind == "archive":
        path.write_bytes(b"PK\x03\x04 no archive")
    elif kind == "positions":
        items = _geodiff(molecules)
        items[0].pos_gen = items[0].pos_gen[:-1]
        path.write_bytes(pickle.dumps(items))
    else:
        tensor = torch.zeros(4, 3)
        buffer = io.BytesIO()
        items = [Data(smiles="C", pos=tensor)]
        pickle.dump(items, buffer, protocol=2)
        # K\x04K\x03: shape (4, 3); K\x03K\x01: stride
        wrong = {"long": (b"K\x04K\x03\x86", b"K\xffK\x03\x86"), "stride": (b"K\x03K\x01\x86", b"K\xf0K\x01\x86")}[kind]
        assert wrong[0] in buffer.getvalue()
        path.write_bytes(buffer.getvalue().replace(*wrong))
    with pytest.raises(InputError, match="refused"):
        read_ensembles(path)


def test_crest_files_are_matched_to_the_smiles_beside_them(molecules, tmp_path):
    """Another atom order, no bonds, energies in hartree; without the SMILES bond orders are perceived."""
    ref = molecules[0][0]
    order = np.random.default_rng(0).permutation(ref.GetNumAtoms())
    lines = []
    for i, xyz in enumerate(_positions(ref)):
        lines += [str(len(order)), f"        {-20.5 + 0.001 * i:.8f}"]
        lines += [f"{ref.GetAtomWithIdx(int(a)).GetSymbol()} {' '.join(f'{x:.6f}' for x in xyz[a])}" for a in order]
    path = tmp_path / "crest_conformers.xyz"
    path.write_text("\n".join(lines) + "\n")
    (perceived,) = READERS[detect_format(path)](path)
    assert Chem.CanonSmiles(perceived.smiles) == Chem.CanonSmiles(SMILES[0])
    (tmp_path / "crest_conformers.smi").write_text(f"{SMILES[0]} acid\n")
    (matched,) = READERS["xyz"](path)
    assert matched.energies == pytest.approx([0.0, 0.6275, 1.2550], abs=1e-3)
    # The match may be any automorphism: compare what does not depend on the order.
    for mol, expected in zip(matched.conformers, _positions(ref), strict=True):
        found = mol.GetConformer().GetPositions()
        radii = [np.sort(np.linalg.norm(p - p.mean(0), axis=1)) for p in (found, expected)]
        np.testing.assert_allclose(*radii, atol=1e-4)
        assert Chem.MolToSmiles(Chem.RemoveHs(mol)) == Chem.CanonSmiles(SMILES[0])
    (tmp_path / "crest_conformers.smi").write_text("CCCCC\n")
    assert READERS["xyz"](path).__next__().error
    path.write_text("3\n\nH 0 0\n")
    with pytest.raises(InputError, match="line 1"):
        list(READERS["xyz"](path))


def test_own_xyz_of_several_molecules_is_read_back(tmp_path):
    """Two isomers of one formula, with and without energies: told apart by title and index."""
    source = tmp_path / "in.smi"
    source.write_text("CCCO propanol one\nCC(C)O two\n")
    for options in ([], ["--refine", "mmff94s"]):
        command = ["generate", str(source), "-n", "3", "--method", "etkdg", "-o", str(tmp_path / "a.xyz"), *options]
        assert CliRunner().invoke(app, command).exit_code == 0
        raws = read_ensembles(tmp_path / "a.xyz")
        assert [(r.name, Chem.CanonSmiles(r.smiles), len(r.conformers)) for r in raws] == [
            ("propanol one", "CCCO", 3),
            ("two", "CC(C)O", 3),
        ]


def test_exports_are_what_the_evaluators_read(plain, tmp_path):
    folder, report = plain
    command = ["evaluate", str(folder / "gen.sdf"), "--reference", str(folder / "ref.sdf")]
    for name in ("geodiff", "etflow"):
        path = tmp_path / f"{name}.pkl"
        done = CliRunner().invoke(app, [*command, "--export", f"{name}={path}"])
        assert done.exit_code == 0, done.output
        again = evaluate(path).report
        assert again["rows"]["0.75"]["mat_r"]["mean"] == pytest.approx(
            report["rows"]["0.75"]["mat_r"]["mean"], abs=1e-5
        )
    items = pickle.loads((tmp_path / "geodiff.pkl").read_bytes())  # noqa: S301  written above
    n = items[0].rdmol.GetNumAtoms()
    assert items[0].pos_gen.shape == (6 * n, 3)
    assert items[0].pos_ref.shape == (3 * n, 3)
    items = pickle.loads((tmp_path / "etflow.pkl").read_bytes())  # noqa: S301  written above
    assert items[0].pos_gen.shape == (6, n, 3)
    assert CliRunner().invoke(app, [*command, "--export", "xyz"]).exit_code == 2
    assert CliRunner().invoke(app, command[:2]).exit_code == 2
