"""Symmetry of a molecular graph: the whole group for scoring, a list of relabelings for training."""

import numpy as np
from jaxtyping import Int32
from rdkit import Chem

from conformergen.geometry.automorphism import SymmetryGroup, factorise

#: RDKit's rule for conjugated terminal groups (carboxylate, nitro, guanidinium, phosphate, sulfonate):
#: degree-1 O or N on one atom, some bonded single and some double, are interchangeable.
_TERMINAL = Chem.MolFromSmarts("[O,N;D1;$([O,N;D1]-[*]=[O,N;D1]),$([O,N;D1]=[*]-[O,N;D1])]~[*]")


def heavy_atoms(mol: Chem.Mol) -> Int32[np.ndarray, " heavy"]:
    """Indices of non-hydrogen atoms; of all atoms where there is none (H2)."""
    heavy = [atom.GetIdx() for atom in mol.GetAtoms() if atom.GetAtomicNum() > 1]
    return np.array(heavy or list(range(mol.GetNumAtoms())), dtype=np.int32)


def _induced(mol: Chem.Mol, kept: Int32[np.ndarray, " kept"]) -> Chem.Mol:
    """Graph on some atoms, in their order."""
    skeleton = Chem.RWMol(mol)
    keep = set(kept.tolist())
    for index in sorted((a.GetIdx() for a in mol.GetAtoms() if a.GetIdx() not in keep), reverse=True):
        skeleton.RemoveAtom(index)
    graph = skeleton.GetMol()
    graph.UpdatePropertyCache(strict=False)
    return graph


def symmetry_group(mol: Chem.Mol, *, atoms: Int32[np.ndarray, " kept"] | None = None) -> SymmetryGroup:
    """Whole automorphism group in the sense of RDKit's ``GetBestRMS`` (>= 2022.09), factorised.

    The graph is flat (no stereo, no hydrogen counts), and conjugated terminal groups are symmetrised. Permutations are
    of positions in ``atoms``.

    Args:
        mol: Molecule with or without explicit hydrogens.
        atoms: Atoms kept, ``heavy_atoms(mol)`` by default.
    """
    graph = _induced(mol, heavy_atoms(mol) if atoms is None else atoms)
    for terminal, _ in graph.GetSubstructMatches(_TERMINAL, maxMatches=10_000):
        atom = graph.GetAtomWithIdx(terminal)
        atom.SetFormalCharge(0)
        for bond in atom.GetBonds():
            bond.SetBondType(Chem.BondType.ONEANDAHALF)
    labels = [(a.GetAtomicNum(), a.GetIsotope(), a.GetFormalCharge()) for a in graph.GetAtoms()]
    ranks = {label: rank for rank, label in enumerate(sorted(set(labels)))}
    bonds = [
        (b.GetBeginAtomIdx(), b.GetEndAtomIdx(), 12 if b.GetIsAromatic() else int(b.GetBondType()))
        for b in graph.GetBonds()
    ]
    return factorise([ranks[label] for label in labels], bonds)


def relabelings(mol: Chem.Mol, *, max_matches: int) -> tuple[Int32[np.ndarray, "automorphism heavy"], bool]:
    """Automorphisms of the heavy atoms that keep bond orders, hydrogen counts and requested stereo.

    By these, atoms of a seed may be relabelled in training data.

    Args:
        mol: Molecule with explicit hydrogens.
        max_matches: Cap on the number listed.

    Returns:
        Permutations of positions in ``heavy_atoms(mol)``, the identity among them, and whether the list is complete.
    """
    kept = heavy_atoms(mol)
    skeleton = Chem.RWMol(mol)
    for atom in skeleton.GetAtoms():
        n_hydrogens = sum(n.GetAtomicNum() == 1 for n in atom.GetNeighbors())
        atom.SetIsotope(1000 * (n_hydrogens + 1) + atom.GetIsotope())
    graph = _induced(skeleton, kept)
    matches = graph.GetSubstructMatches(graph, uniquify=False, useChirality=True, maxMatches=max_matches + 1)
    complete = len(matches) <= max_matches
    listed = np.array(matches[:max_matches], dtype=np.int32).reshape(-1, len(kept))
    if len(listed) == 0:  # a stereo match can miss even the identity where tags depend on each other
        listed = np.arange(len(kept), dtype=np.int32)[None]
    return listed, complete
