"""Score of one molecule: clean its references, map atoms, fill the RMSD matrix."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64
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
from conformergen.records import Molecule


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class ScoringTask:
    """References and samples of one molecule, in any atom order."""

    name: str
    smiles: str
    references: list[Chem.Mol]
    samples: list[Chem.Mol]


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Score:
    """One molecule's comparison.

    Attributes:
        name: Title of the reference.
        smiles: Its SMILES.
        rmsd: (ref, gen) in Å; no columns for a molecule without samples.
        n_dropped: References left out because their bond graph is not the SMILES's.
        reference_stereo: Whether the stereo of each reference is the SMILES's.
        sample_stereo: The same of each sample; all take part in the plain rows as they are.
        n_bad_samples: Samples left out because their bond graph is not the SMILES's.
        exact: False where the symmetry group was cut and RMSDs are upper bounds.
    """

    name: str
    smiles: str
    rmsd: Float64[np.ndarray, "ref gen"]
    reference_stereo: Bool[np.ndarray, " ref"]
    sample_stereo: Bool[np.ndarray, " gen"]
    n_dropped: int = 0
    n_bad_samples: int = 0
    exact: bool = True


def score_molecule(task: ScoringTask) -> Score:
    """Fill the RMSD matrix of one molecule.

    Raises:
        MoleculeError: ``parse`` for an unreadable SMILES, ``reacted`` when no reference has its graph.
    """
    sides = in_one_order(task)
    molecule, references, samples = sides.molecule, sides.references, sides.samples
    if len(references) == 0:
        raise MoleculeError("reacted", f"none of {sides.n_dropped} references has the bond graph of the SMILES")
    mol = to_mol(molecule)
    heavy = heavy_atoms(mol)
    group = symmetry_group(mol)
    rmsd = group_rmsd_matrix(references[:, heavy], samples[:, heavy], group)
    return Score(
        name=task.name,
        smiles=molecule.smiles,
        rmsd=rmsd,
        n_dropped=sides.n_dropped,
        reference_stereo=stereo_ok(references, molecule.graph),
        sample_stereo=stereo_ok(samples, molecule.graph),
        n_bad_samples=sides.n_bad_samples,
        exact=group.exact,
    )


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Sides:
    """References and samples as positions (Å) in one atom order; those of another bond graph are counted only."""

    molecule: Molecule
    references: Float32[np.ndarray, "ref atom 3"]
    samples: Float32[np.ndarray, "gen atom 3"]
    n_dropped: int
    n_bad_samples: int


def in_one_order(task: ScoringTask) -> Sides:
    """Bring all conformers of a task into the atom order of its SMILES.

    Raises:
        MoleculeError: ``parse`` for an unreadable SMILES.
    """
    molecule = molecule_from_mol(parse_smiles(task.smiles), task.name)
    references, n_dropped = _positions(molecule, task.references)
    samples, n_bad = _positions(molecule, task.samples)
    return Sides(molecule=molecule, references=references, samples=samples, n_dropped=n_dropped, n_bad_samples=n_bad)


def _positions(molecule: Molecule, conformers: list[Chem.Mol]) -> tuple[np.ndarray, int]:
    mapped = conformer_positions(molecule, conformers, check_stereo=False)
    good = [m for m in mapped if not isinstance(m, str)]
    positions = np.array(good, dtype=np.float32).reshape(-1, molecule.graph.n_atoms, 3)
    return positions, len(mapped) - len(good)


def rmsd_matrix(
    reference: Chem.Mol, generated: Chem.Mol, *, device: str | None = None
) -> Float64[np.ndarray, "ref gen"]:
    """Heavy-atom RMSD of every pair of conformers, after the best rotation and over all automorphisms.

    As RDKit's ``GetBestRMS`` on molecules without hydrogens, exact for symmetry groups of any size; atoms may come in
    any order, and neither molecule is changed.

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
    """A reference and its nearest sample, superposed; molecules with one conformer each."""

    reference: Chem.Mol
    sample: Chem.Mol
    rmsd: float


def nearest_overlay(task: ScoringTask, reference: int) -> Overlay | None:
    """Superpose the nearest sample on one clean reference, a row of the RMSD matrix; None without samples."""
    sides = in_one_order(task)
    molecule, references, samples = sides.molecule, sides.references[reference : reference + 1], sides.samples
    if len(references) == 0 or len(samples) == 0:
        return None
    mol = to_mol(molecule)
    heavy = heavy_atoms(mol)
    group = symmetry_group(mol)
    rmsd = group_rmsd_matrix(references[:, heavy], samples[:, heavy], group)
    nearest = int(rmsd[0].argmin())
    source = heavy[best_permutation(references[0][heavy], samples[nearest][heavy], group)]
    centre, target = samples[nearest][source].mean(axis=0), references[0][heavy].mean(axis=0)
    rotation = kabsch_rotation(references[0][heavy] - target, samples[nearest][source] - centre)
    return Overlay(
        reference=mol_with_conformers(molecule, references),
        sample=mol_with_conformers(molecule, ((samples[nearest] - centre) @ rotation + target)[None]),
        rmsd=float(rmsd[0, nearest]),
    )
