"""Energies that a ranker predicts."""

import numpy as np
import torch
from jaxtyping import Float64

from conformergen.datasets.collate import collate_graphs, molecule_tables, pad_positions
from conformergen.datasets.ranked import RankedSet
from conformergen.nn.energy import EnergyNetwork


@torch.inference_mode()
def predict_energies(
    ranker: EnergyNetwork, ranked: RankedSet, *, pair_budget: int = 100_000
) -> Float64[np.ndarray, " conf"]:
    """Energies of one molecule's conformers, kcal/mol, up to a constant."""
    device = next(ranker.parameters()).device
    table = molecule_tables(ranked.conformers.molecule)
    n = table.graph.n_atoms
    size = max(1, pair_budget // n**2)
    baseline = torch.from_numpy((ranked.baseline - ranked.baseline.min()).astype(np.float32)).to(device)
    out = []
    for begin in range(0, len(baseline), size):
        part = slice(begin, begin + size)
        rows = list(ranked.conformers.positions[part])
        graph = collate_graphs([table] * len(rows)).to(device)
        out.append(ranker(graph, pad_positions(rows, n).to(device), baseline[part]).cpu().numpy())
    return np.concatenate(out).astype(np.float64)
