"""Tests of ``conformergen.generation.stream``."""

import numpy as np
import pytest
from rdkit import Chem
from support import input_records, run_pipeline

from conformergen.chem import mol_with_conformers
from conformergen.generation.settings import GenerateSettings
from conformergen.io.inputs import InputRecord
from conformergen.runtime.workers import Workers

#: What users feed in: single atoms, elements without parameters, charges, radicals, isotopes, explicit hydrogens,
#: rings, allenes, metals, salts.
ODD = (
    *(
        "C",
        "[Na+]",
        "[H][H]",
        "[He]",
        "O",
        "[C-]#[O+]",
        "OB(O)c1ccccc1",
        "C[Si](C)(C)CCO",
        "C[Se]CCO",
        "F[Si@](Cl)(Br)C",
    ),
    *("CC[NH+](C)CC(=O)[O-]", "[O]N1C(C)(C)CCCC1(C)C", "C[CH]C", "[2H]C([2H])([2H])O", "[H]C([H])([H])C"),
    *("CCOP(=O)(C)SCC", "C[S@](=O)CC", "C1CCCCCCCCCCCCC1", "C12C3C4C1C5C2C3C45", "CC=C=CC", "C/C=N/O", "CCN=NC"),
    *("[Pt](Cl)(Cl)(N)N", "OC1=CC=CC=C1[Hg]Cl", "CC(=O)[O-].[Na+]", "NCC(=O)O.NCC(=O)O.Cl", "S(F)(F)(F)(F)(F)c1ccccc1"),
)


#: Reason codes of what nobody can make.
IMPOSSIBLE = {
    "*CC": "domain",
    "[NH4+].[Cl-]": "domain",
    "C1[C@H]2CC[C@H]1C2": "embed",
    "c1cccc1": "sanitise",
    "C1CC": "parse",
    "": "parse",
    "C" * 4000: "too-large",
}


THREE = ("C[C@H](N)C(=O)O", "CCO", "F/C=C\\Cl")


def _positions(settings, texts=THREE):
    made, summary = run_pipeline(settings, input_records(*texts))
    return [conformers.positions for conformers in made], summary


def test_odd_molecules_get_conformers_and_impossible_ones_a_reason():
    failures = []
    texts = (*ODD, *IMPOSSIBLE)
    made, summary = run_pipeline(GenerateSettings(n=2), input_records(*texts), on_failure=failures.append)
    assert (summary.requested, summary.done, summary.failed) == (len(texts), len(ODD), len(IMPOSSIBLE))
    assert {texts[f.index]: f.reason for f in failures} == IMPOSSIBLE
    assert all(len(c) == 2 for c in made)


@pytest.mark.parametrize("method", ["model", "etkdg", "etkdg+mmff94s"])
def test_generation_counts_and_stereo(tiny_run, method):
    settings = GenerateSettings(n=3, checkpoint=str(tiny_run), method=method)
    texts = (*THREE, "not a smiles", "[Na+].[Cl-]", "CC(N)C(=O)O")
    failures = []
    made, summary = run_pipeline(settings, input_records(*texts), on_failure=failures.append)
    assert (summary.requested, summary.done, summary.failed) == (6, 4, 2)
    assert [f.reason for f in failures] == ["parse", "domain"]
    assert summary.conformers == 12
    for conformers in made:
        mol = mol_with_conformers(conformers.molecule, conformers.positions)
        for conformer in mol.GetConformers():
            copy = Chem.Mol(mol, confId=conformer.GetId())
            Chem.RemoveStereochemistry(copy)
            Chem.AssignStereochemistryFrom3D(copy)
            assert Chem.MolToSmiles(Chem.RemoveHs(copy)) == conformers.molecule.smiles


def test_salts_give_their_organic_fragment():
    salt = InputRecord(index=0, smiles="C[NH2+]CCc1ccccc1.[Cl-]", name="salt")
    [conformers], summary = run_pipeline(GenerateSettings(n=1, method="etkdg"), [salt])
    assert summary.done == 1
    assert conformers.molecule.smiles == "C[NH2+]CCc1ccccc1"
    assert conformers.molecule.source_smiles == salt.smiles
    failures = []
    run_pipeline(GenerateSettings(n=1, method="etkdg", fragments="error"), [salt], on_failure=failures.append)
    assert [f.reason for f in failures] == ["domain"]


def test_output_does_not_depend_on_order_or_company(tiny_run):
    settings = GenerateSettings(n=2, checkpoint=str(tiny_run))
    together, _ = _positions(settings)
    alone = [_positions(settings, (s,))[0][0] for s in THREE]
    backwards, _ = _positions(settings, THREE[::-1])
    for a, b, c in zip(together, alone, backwards[::-1], strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a, c)


def test_worker_processes_give_the_same_conformers(tiny_run):
    one, _ = _positions(GenerateSettings(n=2, checkpoint=str(tiny_run), refine="mmff94s"))
    two, _ = _positions(GenerateSettings(n=2, checkpoint=str(tiny_run), refine="mmff94s", jobs=2))
    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))


def test_pipeline_returns_what_the_rounds_and_the_ranker_give(monkeypatch):
    """Same seeds, same bytes: nothing happens to a sample between the loop of rounds and the output but selection."""
    from conformergen.checkpoint.model import load_model
    from conformergen.generation import rounds
    from conformergen.generation.selection import ranked_selection, select_with_mirrors

    seen, real = {}, rounds.run_rounds

    def spying(model, starts, settings, **options):
        seen.update(starts=list(starts), settings=settings, samples=real(model, starts, settings, **options))
        return seen["samples"]

    monkeypatch.setattr(rounds, "run_rounds", spying)
    [conformers], _ = run_pipeline(GenerateSettings(n=6), input_records("CC(C)NCC(O)CO"))
    assert seen["settings"] == rounds.round_settings(ranked=True)
    model, [samples] = load_model(), seen["samples"]
    with Workers(1) as workers:
        [again] = real(model, seen["starts"], rounds.round_settings(ranked=True), workers=workers)
    np.testing.assert_array_equal(again.positions, samples.positions)
    energies = rounds.ranked_energies(model.ranker, samples)
    settings = ranked_selection(samples.molecule, None)
    selection = select_with_mirrors(samples.molecule, energies, 6, seed=0, settings=settings)
    np.testing.assert_array_equal(conformers.positions, selection.apply(samples.positions))
