"""Automorphisms of a molecular graph, in the sense of RDKit's ``GetBestRMS``."""

from typing import Final

import numpy as np
from jaxtyping import Int32
from rdkit import Chem

#: RDKit's rule for conjugated terminal groups (carboxylate, nitro, guanidinium, phosphate, sulfonate):
#: degree-1 O or N on one atom, some bonded single and some double, are interchangeable.
_TERMINAL = Chem.MolFromSmarts("[O,N;D1;$([O,N;D1]-[*]=[O,N;D1]),$([O,N;D1]=[*]-[O,N;D1])]~[*]")
#: Automorphisms listed at most; beyond it an RMSD is an upper bound and says so.
MAX_AUTOMORPHISMS: Final = 4096


def heavy_atoms(mol: Chem.Mol) -> Int32[np.ndarray, " heavy"]:
    """Indices of non-hydrogen atoms; of all atoms where there is none (H2)."""
    heavy = [atom.GetIdx() for atom in mol.GetAtoms() if atom.GetAtomicNum() > 1]
    return np.array(heavy or list(range(mol.GetNumAtoms())), dtype=np.int32)


def automorphisms(
    mol: Chem.Mol,
    *,
    scoring: bool,
    atoms: Int32[np.ndarray, " kept"] | None = None,
    max_matches: int = MAX_AUTOMORPHISMS,
) -> tuple[Int32[np.ndarray, "automorphism kept"], bool]:
    """Automorphisms of the graph on ``atoms`` as permutations of positions in that list.

    Args:
        mol: Molecule with or without explicit hydrogens.
        scoring: True: flat graph, conjugated terminal groups symmetrised, as ``GetBestRMS`` (RDKit >=
            2022.09). False: bond orders, hydrogen counts and requested stereo are kept, so that atoms
            may be relabelled in training data.
        atoms: Atoms kept, ``heavy_atoms(mol)`` by default.
        max_matches: Cap on the number listed.

    Returns:
        Permutations, the identity among them, and whether the list is complete.
    """
    kept = heavy_atoms(mol) if atoms is None else atoms
    skeleton = Chem.RWMol(mol)
    if not scoring:
        for atom in skeleton.GetAtoms():
            n_hydrogens = sum(n.GetAtomicNum() == 1 for n in atom.GetNeighbors())
            atom.SetIsotope(1000 * (n_hydrogens + 1) + atom.GetIsotope())
    keep = set(kept.tolist())
    for index in sorted((a.GetIdx() for a in mol.GetAtoms() if a.GetIdx() not in keep), reverse=True):
        skeleton.RemoveAtom(index)
    graph = skeleton.GetMol()
    graph.UpdatePropertyCache(strict=False)
    if scoring:
        for terminal, _ in graph.GetSubstructMatches(_TERMINAL, maxMatches=10_000):
            atom = graph.GetAtomWithIdx(terminal)
            atom.SetFormalCharge(0)
            for bond in atom.GetBonds():
                bond.SetBondType(Chem.BondType.ONEANDAHALF)
    matches = graph.GetSubstructMatches(graph, uniquify=False, useChirality=not scoring, maxMatches=max_matches + 1)
    complete = len(matches) <= max_matches
    listed = np.array(matches[:max_matches], dtype=np.int32).reshape(-1, len(kept))
    if len(listed) == 0:  # a stereo match can miss even the identity where tags depend on each other
        listed = np.arange(len(kept), dtype=np.int32)[None]
    return listed, complete
