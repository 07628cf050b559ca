"""Exact symmetric RMSD matrices beside RDKit's."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
from rdkit import Chem
from rdkit.Chem import rdDistGeom, rdMolAlign

from conformergen.chem import symmetry_group
from conformergen.commands.bench.interface import Comparison, Peer
from conformergen.errors import InputError
from conformergen.geometry.branch_bound import group_rmsd_matrix

#: A molecule of 25 heavy atoms with one automorphism.
_ONE: Final = "CCOC(=O)CC(N)Cc1ccc2[nH]cc(CCNC(C)=O)c2c1C"
#: A molecule of 25 heavy atoms with eight automorphisms.
_EIGHT: Final = "O=C(Nc1ccc(cc1)C(=O)NCc1ccccc1)c1ccccc1"
#: Large groups: highly branched or fluorinated molecules, and all atoms of flexible ones.
_HARD: Final = {
    "perfluorononanoic acid": "OC(=O)C(F)(F)C(F)(F)C(F)(F)C(F)(F)C(F)(F)C(F)(F)C(F)(F)C(F)(F)F",
    "bis[bis(CF3)phenyl]thiourea": "FC(F)(F)c1cc(cc(c1)C(F)(F)F)NC(=S)Nc1cc(cc(c1)C(F)(F)F)C(F)(F)F",
    "tetra-tBu-biphenyldiol": "CC(C)(C)c1cc(cc(c1O)C(C)(C)C)-c1c(O)cc(C(C)(C)C)cc1C(C)(C)C",
    "tri-tBu-silyl ether": "COc1ccc(cc1)O[Si](C(C)(C)C)(C(C)(C)C)C(C)(C)C",
    "EDTMP": "OP(O)(=O)CN(CCN(CP(O)(O)=O)CP(O)(O)=O)CP(O)(O)=O",
    "1,4-bis(trityl)benzene": "c1ccc(cc1)C(c1ccccc1)(c1ccccc1)c1ccc(cc1)C(c1ccccc1)(c1ccccc1)c1ccccc1",
    "tris(m-terphenyl)benzene": (
        "c1ccc(cc1)-c1cc(cc(c1)-c1cc(cc(c1)-c1cc(cc(c1)-c1ccccc1)-c1ccccc1)-c1cc(cc(c1)-c1ccccc1)-c1ccccc1)-c1ccccc1"
    ),
}
#: Molecules with large symmetry groups when hydrogens count, by name.
_HARD_ALL_ATOMS: Final = {
    "Ac-Leu-Ala-NHMe, all atoms": "CC(=O)N[C@@H](CC(C)C)C(=O)N[C@@H](C)C(=O)NC",
    "ibuprofen tBu-amide, all atoms": "CC(C)Cc1ccc(cc1)C(C)C(=O)NC(C)(C)C",
    "simvastatin, all atoms": (
        "CCC(C)(C)C(=O)O[C@H]1C[C@@H](C)C=C2C=C[C@H](C)[C@H](CC[C@@H]3C[C@@H](O)CC(=O)O3)[C@@H]12"
    ),
}
#: Seed of the embeddings.
_SEED: Final = 17


def conformers(smiles: str, n: int) -> Chem.Mol:
    """A molecule with n ETKDGv3 conformers, hydrogens included.

    Raises:
        InputError: Where RDKit embeds fewer.
    """
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    parameters = rdDistGeom.ETKDGv3()
    parameters.randomSeed = _SEED  # type: ignore[assignment]  # the stubs are wrong
    if len(rdDistGeom.EmbedMultipleConfs(mol, n, parameters)) < n:
        raise InputError(f"{smiles}: RDKit embeds fewer than {n} conformers")
    return mol


def _sets(mol: Chem.Mol, n_ref: int) -> tuple[Chem.Mol, Chem.Mol, np.ndarray, np.ndarray]:
    """References and samples of one molecule's conformers, as molecules and as arrays."""
    positions = np.array([c.GetPositions() for c in mol.GetConformers()])
    ensembles = []
    for part in (range(n_ref), range(n_ref, len(positions))):
        ensemble = Chem.Mol(mol)
        ensemble.RemoveAllConformers()
        for i in part:
            ensemble.AddConformer(Chem.Conformer(mol.GetConformer(i)), assignId=True)
        ensembles.append(ensemble)
    return ensembles[0], ensembles[1], positions[:n_ref], positions[n_ref:]


def usual(source: Path | None = None) -> Iterator[Comparison]:
    """32 x 64 pairs of 25 heavy atoms; and 4 x 8, where a call's overhead shows."""
    del source
    for smiles, n_ref, n_gen, promises in (
        (_EIGHT, 32, 64, (150.0, 6.0)),
        (_ONE, 32, 64, (None, None)),
        (_EIGHT, 4, 8, (None, None)),
    ):
        full = conformers(smiles, n_ref + n_gen)
        mol = Chem.RemoveHs(full)
        refs, gens, x, y = _sets(mol, n_ref)
        full_refs, full_gens, _, _ = _sets(full, n_ref)
        pairs, sample = n_ref * n_gen, min(n_gen, 32)

        def loop(refs: Chem.Mol = full_refs, gens: Chem.Mol = full_gens, count: int = sample) -> None:
            for j in range(count):
                one, other = Chem.Mol(refs, confId=0), Chem.Mol(gens, confId=j)
                rdMolAlign.GetBestRMS(Chem.RemoveHs(other), Chem.RemoveHs(one))

        def to_ref(refs: Chem.Mol = refs, gens: Chem.Mol = gens) -> np.ndarray:
            return np.array(rdMolAlign.GetAllConformerBestRMSToRef(gens, refs)).reshape(
                refs.GetNumConformers(), gens.GetNumConformers()
            )

        def ours(mol: Chem.Mol = mol, x: np.ndarray = x, y: np.ndarray = y) -> np.ndarray:
            return group_rmsd_matrix(x, y, symmetry_group(mol))

        def facts(ours: Any = ours, to_ref: Any = to_ref) -> dict[str, Any]:
            return {
                "largest_deviation_angstrom": float(np.abs(ours() - to_ref()).max()),
            }

        yield Comparison(
            name=f"25 atoms, {symmetry_group(mol).size} automorphisms, {n_ref} x {n_gen} pairs",
            unit="pair",
            ours=ours,
            units=pairs,
            peers={
                "RemoveHs and GetBestRMS": Peer(call=loop, units=sample, at_least=promises[0]),
                "GetAllConformerBestRMSToRef": Peer(call=to_ref, units=pairs, at_least=promises[1]),
            },
            facts=facts,
        )


def hard(source: Path | None = None) -> Iterator[Comparison]:
    """12 x 24 pairs of molecules with thousands to millions of automorphisms."""
    del source
    for name, smiles in (_HARD | _HARD_ALL_ATOMS).items():
        mol = conformers(smiles, 36)
        atoms = None
        if name in _HARD_ALL_ATOMS:
            atoms = np.arange(mol.GetNumAtoms(), dtype=np.int32)
        else:
            mol = Chem.RemoveHs(mol)
        refs, gens, x, y = _sets(mol, 12)
        group = symmetry_group(mol) if atoms is None else symmetry_group(mol, atoms=atoms)
        few_refs, few_gens = Chem.Mol(refs, confId=0), Chem.Mol(gens, confId=0)

        def rdkit(refs: Chem.Mol = few_refs, gens: Chem.Mol = few_gens, *, whole: bool = atoms is not None) -> float:
            if whole:  # GetAllConformerBestRMSToRef leaves hydrogens out
                return rdMolAlign.GetBestRMS(Chem.Mol(gens), refs)
            return float(rdMolAlign.GetAllConformerBestRMSToRef(gens, refs)[0])

        def ours(mol: Chem.Mol = mol, x: np.ndarray = x, y: np.ndarray = y, atoms: Any = atoms) -> np.ndarray:
            group = symmetry_group(mol) if atoms is None else symmetry_group(mol, atoms=atoms)
            return group_rmsd_matrix(x, y, group)

        def facts(ours: Any = ours, rdkit: Any = rdkit, group: Any = group) -> dict[str, Any]:
            return {
                "automorphisms": group.size,
                "exact": group.exact,
                "rdkit_less_ours_angstrom": rdkit() - float(ours()[0, 0]),
            }

        yield Comparison(
            name=name,
            unit="pair",
            ours=ours,
            units=len(x) * len(y),
            peers={"RDKit": Peer(call=rdkit, units=1, at_least=10.0)},
            facts=facts,
            rounds=1 if atoms is not None else 3,
        )
