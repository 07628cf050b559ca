"""Energies that the ranker predicts."""

import numpy as np
import torch
from jaxtyping import Float32, Float64

from conformergen.datasets.collate import collate_graphs, molecule_tables, pad_positions
from conformergen.nn.energy import EnergyNetwork
from conformergen.records import Molecule
from conformergen.sampling.batches import SamplingSettings


@torch.inference_mode()
def predict_energies(
    ranker: EnergyNetwork,
    molecule: Molecule,
    positions: Float32[np.ndarray, "conf atom 3"],
    mmff_energies: Float64[np.ndarray, " conf"],
    *,
    pair_budget: int = SamplingSettings.pair_budget,
) -> Float64[np.ndarray, " conf"]:
    """GFN2-xTB energies of the minima that the conformers of one molecule lead to, kcal/mol, up to a constant.

    Args:
        ranker: The network.
        molecule: Species.
        positions: Samples, Å.
        mmff_energies: MMFF94s energies of the starts of the samples, kcal/mol.
        pair_budget: Padded atom pairs in one batch.
    """
    device = next(ranker.parameters()).device
    table = molecule_tables(molecule)
    n = table.graph.n_atoms
    size = max(1, pair_budget // n**2)
    baseline = torch.from_numpy((mmff_energies - mmff_energies.min()).astype(np.float32)).to(device)
    out = []
    for begin in range(0, len(baseline), size):
        part = slice(begin, begin + size)
        rows = list(positions[part])
        graph = collate_graphs([table] * len(rows)).to(device)
        out.append(ranker(graph, pad_positions(rows, n).to(device), baseline[part]).cpu().numpy())
    return np.concatenate(out).astype(np.float64)
