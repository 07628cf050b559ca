"""Conformers as torch-geometric ``Data``, and files that the evaluators of GeoDiff and ET-Flow read.

torch and torch-geometric are imported here only (3 CPU seconds). To add a file for another evaluator: a function and a
line in ``EVALUATOR_FILES``.
"""

import pickle
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from rdkit import Chem
from torch_geometric.data import Data

from conformergen.chem import mol_with_conformers
from conformergen.records import AlignedEnsembles, ConformerSet
from conformergen.runtime.files import commit_bytes

#: Number of the aromatic type in RDKit's BondType enumeration, which these programs use.
_RDKIT_AROMATIC: Final = 12


def to_pyg(conformers: ConformerSet) -> list[Data]:
    """One ``Data`` for each conformer, with the field names of GeoDiff and ET-Flow."""
    graph = conformers.molecule.graph
    both = np.concatenate([graph.bonds, graph.bonds[:, ::-1]]).T.astype(np.int64)
    types = np.concatenate([graph.bond_types, graph.bond_types]).astype(np.int64)
    codes = np.where(types == 4, _RDKIT_AROMATIC, types)
    return [
        Data(
            atom_type=torch.from_numpy(graph.atomic_numbers.astype(np.int64)),
            pos=torch.from_numpy(np.array(positions)),
            edge_index=torch.from_numpy(both),
            edge_type=torch.from_numpy(codes),
            smiles=conformers.molecule.smiles,
        )
        for positions in conformers.positions
    ]


def _geodiff(smiles: str, aligned: AlignedEnsembles) -> Any:
    """One ``Data`` of ``samples_all.pkl``: positions of all conformers, one below the other."""
    references, samples = aligned.references, aligned.samples
    return Data(
        atom_type=torch.from_numpy(aligned.molecule.graph.atomic_numbers.astype(np.int64)),
        smiles=smiles,
        rdmol=mol_with_conformers(aligned.molecule, references[:1]),
        pos_ref=torch.from_numpy(references.reshape(-1, 3)),
        num_pos_ref=torch.tensor([len(references)]),
        pos_gen=torch.from_numpy(samples.reshape(-1, 3)),
        num_pos_gen=torch.tensor([len(samples)]),
    )


def _etflow(smiles: str, aligned: AlignedEnsembles) -> Any:
    """One ``Data`` of ``generated_files.pkl``: the SMILES is atom-mapped in the order of the positions."""
    del smiles
    mol = mol_with_conformers(aligned.molecule, aligned.references[:1])
    mapped = Chem.Mol(mol)
    for atom in mapped.GetAtoms():
        atom.SetAtomMapNum(atom.GetIdx() + 1)
    return Data(
        smiles=Chem.MolToSmiles(mapped),
        rdmol=mol,
        pos_ref=torch.from_numpy(aligned.references),
        pos_gen=aligned.samples,
    )


#: Files of other evaluators by the name of the generator.
EVALUATOR_FILES: Final[Mapping[str, Callable[[str, AlignedEnsembles], Any]]] = {"geodiff": _geodiff, "etflow": _etflow}


def write_evaluator_file(name: str, path: Path, ensembles: Sequence[tuple[str, AlignedEnsembles]]) -> None:
    """Write ensembles for another evaluator.

    Args:
        name: Entry of ``EVALUATOR_FILES``.
        path: File.
        ensembles: SMILES, references and samples of each molecule; molecules without samples have no entry.
    """
    items = [EVALUATOR_FILES[name](smiles, aligned) for smiles, aligned in ensembles if len(aligned.samples)]
    commit_bytes(path, pickle.dumps(items))
