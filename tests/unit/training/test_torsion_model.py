"""Tests of ``conformergen.training.torsion_model``."""

import numpy as np
import pytest
import torch
from support import torsion_features_of

from conformergen.checkpoint.folder import find_torsion_model
from conformergen.chem import (
    embed,
    molecule_from_smiles,
)
from conformergen.torsion.features import TorsionFeatures, torsion_features
from conformergen.torsion.model import BINS, TorsionModel
from conformergen.training.torsion_data import torsion_set
from conformergen.training.torsion_model import (
    FusedTorsionModel,
    PaddedTorsions,
    TorsionModelSettings,
    cross_entropy,
    initial_weights,
    make_optimisers,
)

MODEL = find_torsion_model("default")


LEARNED = ("C[C@H](O)[C@@H](N)CCO", "CC(C)COC(=O)c1ccccc1CO")


def _learned(smiles, n=3):
    """What the training reads of embeddings, and their mirror images' codes."""
    molecule = molecule_from_smiles(smiles)
    positions = embed(molecule, n, seed=0)
    found = torsion_set(molecule, positions, np.arange(float(n)))
    return found, torsion_features(molecule.graph, found.features.quartets[0], -positions.astype(np.float64))


@pytest.mark.parametrize("kind", [TorsionModel, FusedTorsionModel])
def test_network_is_the_same_in_torch_and_padded(kind):
    """Two molecules, padded to one size, with torch, against each with NumPy."""
    model = MODEL.load()
    trained = kind(weights={name: torch.from_numpy(w) for name, w in model.weights.items()}, ops=torch)
    parts = [torsion_features_of(smiles)[2] for smiles in ("OCCNC", "CC(C)COC(=O)c1ccccc1CO")]
    padded = {}
    for name in ("elements", "features", "pairs", "quartets", "sides", "relations"):
        values = [getattr(part, name)[0] for part in parts]
        shape = np.max([v.shape for v in values], axis=0)
        padded[name] = torch.from_numpy(
            np.stack([np.pad(v, [(0, n - m) for n, m in zip(shape, v.shape, strict=True)]) for v in values])
        )
    rng = np.random.default_rng(0)
    sizes = [part.elements.shape[1] for part in parts], [part.quartets.shape[1] for part in parts]
    atoms, exists = (torch.arange(max(size)) < torch.tensor(size)[:, None] for size in sizes)
    radians = rng.uniform(-np.pi, np.pi, exists.shape).astype(np.float32)
    known = rng.random(exists.shape) < 0.5
    both = TorsionFeatures(**padded)
    ends = trained.describe_ends(both, atoms=atoms)
    theirs = trained.condition(ends, both, present=exists)(torch.from_numpy(radians), torch.from_numpy(known))
    for i, part in enumerate(parts):
        n = part.quartets.shape[1]
        ours = model.condition(model.describe_ends(part), part)(radians[i : i + 1, :n], known[i : i + 1, :n])
        assert ours.dtype == np.float32
        assert ours.shape == (1, n, BINS)
        np.testing.assert_allclose(theirs[i, :n], ours[0], atol=1e-3)


def test_training_reaches_every_weight():
    torch.manual_seed(0)
    data = PaddedTorsions([_learned(smiles)[0] for smiles in LEARNED])
    size = {"channels": 16, "atom_layers": 1, "torsion_layers": 1, "heads": 4}
    settings = TorsionModelSettings(**size, learning_rate=0.01, weight_decay=0.0)
    weights = initial_weights(settings)
    optimisers = make_optimisers(weights, settings)
    assert sum(len(g["params"]) for o in optimisers for g in o.param_groups) == len(weights)
    model, ids, losses = FusedTorsionModel(weights=weights, ops=torch), torch.arange(2), []
    for _ in range(40):
        loss = cross_entropy(model, data, ids, 8, given=True, score=False).mean()
        for optimiser in optimisers:
            optimiser.zero_grad()
        loss.backward()
        for optimiser in optimisers:
            optimiser.step()
        losses.append(float(loss.detach()))
    # Keys shifted alike change nothing.
    grads = {name: w.grad for name, w in weights.items() if not name.endswith(".k.bias")}
    assert all(g is not None and g.abs().sum() > 0 for g in grads.values())
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])
