"""Samples and references as files that published evaluators read. To add one: a function and a line."""

import pickle
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from rdkit import Chem

from conformergen.chem import mol_with_conformers
from conformergen.errors import InputError
from conformergen.evaluation import ScoringTask, in_one_order
from conformergen.storage import commit_bytes


def _geodiff(task: ScoringTask) -> Any:
    """One ``Data`` of ``samples_all.pkl``: positions of all conformers one below the other."""
    import torch
    from torch_geometric.data import Data

    sides = in_one_order(task)
    references, samples = sides.references, sides.samples
    mol = mol_with_conformers(sides.molecule, references[:1])
    return Data(
        atom_type=torch.from_numpy(sides.molecule.graph.atomic_numbers.astype(np.int64)),
        smiles=task.smiles,
        rdmol=mol,
        pos_ref=torch.from_numpy(references.reshape(-1, 3)),
        num_pos_ref=torch.tensor([len(references)]),
        pos_gen=torch.from_numpy(samples.reshape(-1, 3)),
        num_pos_gen=torch.tensor([len(samples)]),
    )


def _etflow(task: ScoringTask) -> Any:
    """One ``Data`` of ``generated_files.pkl``: the SMILES is atom-mapped in the order of the positions."""
    import torch
    from torch_geometric.data import Data

    sides = in_one_order(task)
    references, samples = sides.references, sides.samples
    mol = mol_with_conformers(sides.molecule, references[:1])
    mapped = Chem.Mol(mol)
    for atom in mapped.GetAtoms():
        atom.SetAtomMapNum(atom.GetIdx() + 1)
    return Data(smiles=Chem.MolToSmiles(mapped), rdmol=mol, pos_ref=torch.from_numpy(references), pos_gen=samples)


EXCHANGE: Final[Mapping[str, Callable[[ScoringTask], Any]]] = {"geodiff": _geodiff, "etflow": _etflow}


def write_exchange(name: str, path: Path, tasks: Sequence[ScoringTask]) -> None:
    """Write the scored molecules for another evaluator; molecules without samples have no entry.

    Raises:
        InputError: For an unknown ``name``.
    """
    if name not in EXCHANGE:
        raise InputError(f"--export {name!r} is not one of {', '.join(EXCHANGE)}")
    items = [EXCHANGE[name](task) for task in tasks if task.samples]
    commit_bytes(path, pickle.dumps(items))
