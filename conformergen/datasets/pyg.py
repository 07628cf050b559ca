"""Conformers as torch-geometric ``Data``, the exchange type of GeoDiff and ET-Flow.

Apart from ``collate`` because importing torch-geometric costs 3 CPU seconds.
"""

import numpy as np
import torch
from torch_geometric.data import Data

from conformergen.records import ConformerSet


def to_pyg(conformers: ConformerSet) -> list[Data]:
    """torch-geometric ``Data``, one per conformer, with the field names of GeoDiff and ET-Flow."""
    graph = conformers.molecule.graph
    both = np.concatenate([graph.bonds, graph.bonds[:, ::-1]]).T.astype(np.int64)
    types = np.concatenate([graph.bond_types, graph.bond_types]).astype(np.int64)
    codes = np.where(types == 4, 12, types)  # RDKit's BondType enumeration: aromatic is 12
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
