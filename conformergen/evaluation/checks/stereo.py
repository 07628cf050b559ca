"""R/S and E/Z of each sample, by RDKit's CIP labels, perceived from its coordinates."""

import numpy as np
from rdkit import Chem
from rdkit.Chem import rdCIPLabeler

from conformergen.chem import mol_with_conformers, to_mol
from conformergen.evaluation.checks.interface import Check, Checked, CheckSettings
from conformergen.evaluation.scoring import Score


def _labels(mol: Chem.Mol) -> tuple[dict[int, str], dict[int, str]]:
    """CIP label of each centre and of each double bond."""
    rdCIPLabeler.AssignCIPLabels(mol)
    atoms = {a.GetIdx(): a.GetProp("_CIPCode") for a in mol.GetAtoms() if a.HasProp("_CIPCode")}
    bonds = {b.GetIdx(): b.GetProp("_CIPCode") for b in mol.GetBonds() if b.HasProp("_CIPCode")}
    return atoms, bonds


def _fraction(right: list[bool]) -> float:
    return sum(right) / len(right) if right else float("nan")


def run(score: Score, settings: CheckSettings) -> Checked:
    """Whether each sample has the requested stereo, and its fractions of right centres and right double bonds."""
    del settings
    aligned = score.aligned
    centres, doubles = _labels(Chem.Mol(to_mol(aligned.molecule)))
    blank = mol_with_conformers(aligned.molecule, aligned.samples)
    Chem.RemoveStereochemistry(blank)
    right: list[list[float]] = []
    for conformer in blank.GetConformers():
        mol = Chem.Mol(blank, confId=conformer.GetId())
        Chem.AssignStereochemistryFrom3D(mol)
        found_centres, found_doubles = _labels(mol)
        right.append(
            [
                _fraction([found_centres.get(i) == label for i, label in centres.items()]),
                _fraction([found_doubles.get(i) == label for i, label in doubles.items()]),
            ]
        )
    shares = np.array(right).reshape(-1, 2)
    return Checked(
        samples={
            "as_requested": np.all((shares == 1.0) | np.isnan(shares), axis=1),
            "centres": shares[:, 0],
            "double_bonds": shares[:, 1],
        },
        molecule={"n_centres": len(centres), "n_double_bonds": len(doubles)},
    )


#: Entry of ``CHECKS``.
CHECK = Check(run=run, units={"n_centres": "", "n_double_bonds": ""})
