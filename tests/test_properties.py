"""Properties that hold for any input, by hypothesis."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rdkit import Chem
from scipy.spatial.transform import Rotation

from conformergen.chem import mol_with_conformers, molecule_from_mol, molecule_from_smiles, symmetry_group
from conformergen.config import from_mapping, load_config
from conformergen.evaluation.metrics import METRICS
from conformergen.evaluation.scoring import ScoringTask, score_molecule
from conformergen.geometry.branch_bound import group_rmsd_matrix
from conformergen.io.shards import ShardEntry, read_shard, write_shard
from conformergen.records import ConformerSet

SMILES = ("C", "O", "CC(C)(C)O", "c1ccccc1F", "C[C@H](N)C(=O)O", "F/C=C/Cl", "OC(=O)C(F)(F)F", "CC(=O)[O-]", "[H][H]")
repeat = settings(
    max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def _positions(n_conf, n_atoms, seed):
    return np.random.default_rng(seed).normal(size=(n_conf, n_atoms, 3)).astype(np.float32)


@repeat
@given(st.sampled_from(SMILES), st.integers(0, 2**31))
def test_features_follow_the_atoms(smiles, seed):
    """However the atoms are numbered, the molecule is the same, in its canonical order."""
    mol = Chem.MolFromSmiles(smiles)
    order = np.random.default_rng(seed).permutation(mol.GetNumAtoms()).tolist()
    one, other = molecule_from_smiles(smiles), molecule_from_mol(Chem.RenumberAtoms(mol, order), "")
    assert one.smiles == other.smiles
    for name in (
        "atomic_numbers",
        "atom_features",
        "bonds",
        "bond_types",
        "centres",
        "handedness",
        "double_bonds",
        "cis",
    ):
        np.testing.assert_array_equal(getattr(one.graph, name), getattr(other.graph, name))


@repeat
@given(
    st.lists(
        st.tuples(st.sampled_from(SMILES), st.integers(0, 4), st.sampled_from(("train", "val", "test"))), max_size=6
    )
)
def test_shards_hold_any_ragged_content(tmp_path, entries):
    """Molecules of one atom, ensembles of no conformer, no molecule at all."""
    made = []
    for i, (smiles, n, split) in enumerate(entries):
        molecule = molecule_from_smiles(smiles, f"name {i} é")
        conformers = ConformerSet(
            molecule=molecule,
            positions=_positions(n, molecule.graph.n_atoms, i),
            energies=np.arange(n, dtype=np.float64),
            weights=np.full(n, 0.25),
            source_idx=np.arange(n, dtype=np.int32),
        )
        made.append(ShardEntry(conformers=conformers, split=split))
    if not made:
        return
    line = write_shard(tmp_path / "s.h5", made)
    assert line.molecules == len(made)
    assert line.conformers == sum(len(e.conformers) for e in made)
    first = (tmp_path / "s.h5").read_bytes()
    back = read_shard(tmp_path / "s.h5")
    assert len(back) == len(made)
    for a, b in zip(made, back, strict=True):
        assert (a.split, a.conformers.molecule.smiles, a.conformers.molecule.name) == (
            b.split,
            b.conformers.molecule.smiles,
            b.conformers.molecule.name,
        )
        np.testing.assert_array_equal(a.conformers.positions, b.conformers.positions)
        np.testing.assert_array_equal(a.conformers.molecule.graph.bonds, b.conformers.molecule.graph.bonds)
    write_shard(tmp_path / "s.h5", made)
    assert (tmp_path / "s.h5").read_bytes() == first


@repeat
@given(st.sampled_from(SMILES[2:8]), st.integers(0, 2**31))
def test_scores_do_not_depend_on_frame_labels_or_order(smiles, seed):
    rng = np.random.default_rng(seed)
    molecule = molecule_from_smiles(smiles, smiles)
    n = molecule.graph.n_atoms
    refs, gens = _positions(3, n, seed), _positions(4, n, seed + 1)
    turn = Rotation.random(random_state=int(seed % 2**31)).as_matrix().astype(np.float32)
    order = rng.permutation(3)

    def score(references, samples):
        sides = [[mol_with_conformers(molecule, p[None]) for p in side] for side in (references, samples)]
        result = score_molecule(ScoringTask(name="m", smiles=smiles, references=sides[0], samples=sides[1]))
        return [metric.function(result.rmsd, 0.75) for metric in METRICS.values()], result.rmsd

    plain, matrix = score(refs, gens)
    moved, other = score((refs @ turn + 3.0)[order], gens @ turn)
    np.testing.assert_allclose(plain, moved, atol=1e-4)
    np.testing.assert_allclose(matrix[order], other, atol=1e-4)
    mol = Chem.MolFromSmiles(smiles)
    group = symmetry_group(mol)
    heavy = _positions(2, mol.GetNumAtoms(), seed).astype(np.float64)
    relabelled = heavy[:, group.permutations()[int(rng.integers(group.size))]]
    np.testing.assert_allclose(np.diag(group_rmsd_matrix(heavy, relabelled, group)), 0.0, atol=1e-6)


@repeat
@given(
    st.sampled_from(("tiny", "small", "drugs")),
    st.integers(1, 10**6),
    st.floats(1e-6, 1.0),
    st.sampled_from(("none", "recm", "fixed")),
)
def test_configurations_survive_their_own_text(preset, steps, rate, mode):
    import json
    from dataclasses import asdict

    flags = [f"training.steps={steps}", f"training.learning_rate={rate}", f"network.relaxation.mode={mode}"]
    config = load_config(preset, None, flags)
    assert from_mapping(type(config), json.loads(json.dumps(asdict(config)))) == config


@pytest.mark.parametrize("n", [1, 2, 7])
def test_counts_of_a_run_add_up(tmp_path, n):
    from conformergen.generation.output import generate_to
    from conformergen.generation.settings import GenerateSettings
    from conformergen.io.inputs import InputRecord

    texts = [*(SMILES * n), "no molecule", "", "[Na+].[Cl-]"]
    records = [InputRecord(index=i, smiles=s, name=str(i)) for i, s in enumerate(texts)]
    summary = generate_to(records, str(tmp_path / "o.sdf"), GenerateSettings(n=1, method="etkdg"))
    assert summary.requested == len(texts) == summary.done + summary.failed
    assert summary.failed == 3
    assert summary.conformers == summary.done
