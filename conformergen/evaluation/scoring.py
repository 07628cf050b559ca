"""Scoring of one molecule: map atoms to one order, fill the RMSD matrix, superpose nearest pairs."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64
from rdkit import Chem

from conformergen.chem import (
    conformer_positions,
    heavy_atoms,
    mol_with_conformers,
    molecule_from_mol,
    parse_smiles,
    symmetry_group,
    to_mol,
)
from conformergen.errors import MoleculeError
from conformergen.geometry.branch_bound import best_permutation, group_rmsd_matrix
from conformergen.geometry.rmsd import kabsch_rotation
from conformergen.geometry.stereo import stereo_ok
from conformergen.records import AlignedEnsembles, Molecule


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class ScoringTask:
    """References and samples of one molecule, in any atom order."""

    name: str
    smiles: str
    references: list[Chem.Mol]
    samples: list[Chem.Mol]


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Score:
    """Comparison of the samples of one molecule with its references.

    Attributes:
        name: Title of the reference.
        smiles: Canonical SMILES of the reference.
        rmsd: RMSD in Å; no columns for a molecule without samples.
        aligned: References and samples in one atom order, for checks and overlays.
        reference_stereo: Whether each reference has the stereo of the SMILES.
        sample_stereo: Whether each sample has the stereo of the SMILES; all take part in the plain rows.
        exact: False where the symmetry group was cut and RMSDs are upper bounds.
    """

    name: str
    smiles: str
    rmsd: Float64[np.ndarray, "ref gen"]
    aligned: AlignedEnsembles
    reference_stereo: Bool[np.ndarray, " ref"]
    sample_stereo: Bool[np.ndarray, " gen"]
    exact: bool = True

    @property
    def n_dropped_references(self) -> int:
        """References left out because their bond graph is not that of the SMILES."""
        return self.aligned.n_dropped_references

    @property
    def n_dropped_samples(self) -> int:
        """Samples left out for the same reason."""
        return self.aligned.n_dropped_samples


def score_molecule(task: ScoringTask) -> Score:
    """Fill the RMSD matrix of one molecule.

    Raises:
        MoleculeError: ``parse`` for an unreadable SMILES, ``reacted`` when no reference has its bond graph.
    """
    aligned = to_reference_order(task)
    molecule, references, samples = aligned.molecule, aligned.references, aligned.samples
    if len(references) == 0:
        raise MoleculeError(
            "reacted", f"none of {aligned.n_dropped_references} references has the bond graph of the SMILES"
        )
    mol = to_mol(molecule)
    heavy = heavy_atoms(mol)
    group = symmetry_group(mol)
    return Score(
        name=task.name,
        smiles=molecule.smiles,
        rmsd=group_rmsd_matrix(references[:, heavy], samples[:, heavy], group),
        aligned=aligned,
        reference_stereo=stereo_ok(references, molecule.graph),
        sample_stereo=stereo_ok(samples, molecule.graph),
        exact=group.exact,
    )


def to_reference_order(task: ScoringTask) -> AlignedEnsembles:
    """Bring all conformers of a task into the atom order of its SMILES.

    Raises:
        MoleculeError: ``parse`` for an unreadable SMILES.
    """
    molecule = molecule_from_mol(parse_smiles(task.smiles), task.name)
    references, n_dropped_references = _positions(molecule, task.references)
    samples, n_dropped_samples = _positions(molecule, task.samples)
    return AlignedEnsembles(
        molecule=molecule,
        references=references,
        samples=samples,
        n_dropped_references=n_dropped_references,
        n_dropped_samples=n_dropped_samples,
    )


def _positions(molecule: Molecule, conformers: Sequence[Chem.Mol]) -> tuple[np.ndarray, int]:
    """Positions in the atom order of the molecule, and the number of conformers with another bond graph."""
    mapped = conformer_positions(molecule, list(conformers), check_stereo=False)
    good = [m for m in mapped if not isinstance(m, str)]
    positions = np.array(good, dtype=np.float32).reshape(-1, molecule.graph.n_atoms, 3)
    return positions, len(mapped) - len(good)


def rmsd_matrix(
    reference: Chem.Mol, generated: Chem.Mol, *, device: str | None = None
) -> Float64[np.ndarray, "ref gen"]:
    """Heavy-atom RMSD of every pair of conformers, after the best rotation and over all automorphisms.

    The values are those of RDKit's ``GetBestRMS`` on molecules without hydrogens, and exact for symmetry groups of any
    size. Atoms may come in any order, and neither molecule is changed.

    Args:
        reference: Molecule with conformers.
        generated: The same compound with conformers.
        device: A torch device for groups of at most 64 automorphisms; NumPy where it is None.

    Returns:
        RMSD in Å, a row for each conformer of ``reference``.

    Raises:
        MoleculeError: ``reacted`` when a conformer's bond graph is not that of ``reference``; as ``parse_smiles``.

    Example:
        >>> import conformergen
        >>> mol = conformergen.generate("CCCCO", n=3)
        >>> conformergen.rmsd_matrix(mol, mol).shape
        (3, 3)
    """
    molecule = molecule_from_mol(parse_smiles(Chem.MolToSmiles(Chem.RemoveHs(reference))), "")
    sets = []
    for mol in (reference, generated):
        single = [Chem.Mol(mol, confId=c.GetId()) for c in mol.GetConformers()]
        positions, n_bad = _positions(molecule, single)
        if n_bad:
            raise MoleculeError("reacted", f"{n_bad} conformers are not of {molecule.smiles}")
        sets.append(positions)
    kept = to_mol(molecule)
    heavy = heavy_atoms(kept)
    return group_rmsd_matrix(sets[0][:, heavy], sets[1][:, heavy], symmetry_group(kept), device=device)


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Overlay:
    """A reference and its nearest sample, superposed; molecules with one conformer each. RMSD in Å."""

    reference: Chem.Mol
    sample: Chem.Mol
    rmsd: float


def nearest_overlay(score: Score, reference: int) -> Overlay | None:
    """Superpose the nearest sample on one reference, a row of the RMSD matrix; None without samples."""
    molecule = score.aligned.molecule
    if reference >= len(score.aligned.references) or len(score.aligned.samples) == 0:
        return None
    target = score.aligned.references[reference]
    nearest = int(score.rmsd[reference].argmin())
    sample = score.aligned.samples[nearest]
    mol = to_mol(molecule)
    heavy = heavy_atoms(mol)
    source = heavy[best_permutation(target[heavy], sample[heavy], symmetry_group(mol))]
    centre, origin = sample[source].mean(axis=0), target[heavy].mean(axis=0)
    rotation = kabsch_rotation(target[heavy] - origin, sample[source] - centre)
    return Overlay(
        reference=mol_with_conformers(molecule, target[None]),
        sample=mol_with_conformers(molecule, ((sample - centre) @ rotation + origin)[None]),
        rmsd=float(score.rmsd[reference, nearest]),
    )
