"""Tests of ``conformergen.diffusion.priors``."""

import pytest
import torch

from conformergen.chem import molecule_from_smiles
from conformergen.datasets.collate import collate_graphs, molecule_tables
from conformergen.diffusion import PRIORS


@pytest.fixture
def graph():
    return collate_graphs([molecule_tables(molecule_from_smiles(s)) for s in ("CCO", "c1ccccc1")])


@pytest.mark.parametrize("name", PRIORS)
def test_prior_is_centred_and_leaves_padding_alone(name, graph):
    normal = torch.randn(*graph.mask.shape, 3)
    anchor, noise = PRIORS[name](graph, normal, torch.randn_like(normal))
    for part in (anchor, noise):
        assert part[~graph.mask].abs().max() < 1e-5
        assert part.sum(1).abs().max() < 1e-4


def test_harmonic_prior_keeps_bonded_atoms_together(graph):
    rng = torch.Generator().manual_seed(0)
    samples = [PRIORS["harmonic"](graph, torch.randn(*graph.mask.shape, 3, generator=rng), None)[1] for _ in range(300)]
    x = torch.stack(samples)[:, 1]
    bonded = (x[:, 0] - x[:, 1]).square().sum(-1).mean()
    opposite = (x[:, 0] - x[:, 3]).square().sum(-1).mean()
    assert bonded < 0.7 * opposite
