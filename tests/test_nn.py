from dataclasses import replace

import pytest
import torch
from e3nn import o3

from conformergen.datasets.collate import collate_graphs, molecule_tables, pad_positions
from conformergen.diffusion import PATHS, denoise
from conformergen.io.formats.pyg import to_pyg
from conformergen.nn import BACKBONES, NetworkSettings, RelaxationSettings, make_backbone
from conformergen.nn.linear import ChannelLinear, from_flat, to_flat
from conformergen.records.batch import GraphBatch
from conformergen.sampling import SAMPLERS

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}
#: Backbones, and the one that turns bonds too.
KINDS = [*BACKBONES, "torsions"]


def _setup(ensembles, backbone, dtype, mode="none"):
    torch.manual_seed(0)
    settings = NetworkSettings(
        backbone="headwise" if backbone == "torsions" else backbone,
        torsions=backbone == "torsions",
        channels=16,
        odd_channels=8,
        layers=2,
        n_radial=8,
        relaxation=RelaxationSettings(mode=mode, rank=4),
    )
    # e3nn rounds its Wigner coefficients to the default dtype when a product is built.
    torch.set_default_dtype(dtype)
    try:
        network = make_backbone(settings).eval()
    finally:
        torch.set_default_dtype(torch.float32)
    if backbone == "torsions":
        torch.nn.init.normal_(network.torsions.weights[-1].weight)
    graph = collate_graphs([molecule_tables(s.molecule) for s in ensembles])
    graph = replace(graph, handedness=graph.handedness.to(dtype))
    positions = pad_positions([s.positions[0] for s in ensembles], graph.mask.shape[1]).to(dtype)
    return network, graph, positions


def _relative(a, b):
    return float((a - b).detach().abs().max() / b.detach().abs().max())


def _permuted(graph: GraphBatch, order: torch.Tensor) -> GraphBatch:
    inverse = torch.argsort(order)
    return GraphBatch(
        atomic_numbers=graph.atomic_numbers[:, order],
        atom_features=graph.atom_features[:, order],
        mask=graph.mask[:, order],
        bond_types=graph.bond_types[:, order][:, :, order],
        hops=graph.hops[:, order][:, :, order],
        relations=graph.relations[:, order][:, :, order],
        handedness=graph.handedness[:, order],
        centre_neighbours=inverse[graph.centre_neighbours[:, order]],
        rotatable_bonds=inverse[graph.rotatable_bonds],
        moving_atoms=graph.moving_atoms[:, :, order],
    )


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("backbone", KINDS)
def test_exact_network_is_equivariant(ensembles, backbone, dtype):
    network, graph, x = _setup(ensembles, backbone, dtype)
    noise = torch.full((len(x),), 0.3, dtype=dtype)
    mask = graph.mask[..., None].to(dtype)
    y = network(graph, x, noise)
    rotation = o3.rand_matrix(dtype=torch.float64).to(dtype)
    assert _relative(network(graph, x @ rotation.T, noise), y @ rotation.T) < TOLERANCE[dtype]
    mirrored = replace(graph, handedness=-graph.handedness)
    assert _relative(network(mirrored, -x, noise), -y) < TOLERANCE[dtype]
    assert _relative(network(graph, (x + 2.0) * mask, noise), y) < TOLERANCE[dtype]
    order = torch.randperm(x.shape[1])
    assert _relative(network(_permuted(graph, order), x[:, order], noise), y[:, order]) < TOLERANCE[dtype]
    assert float((y * (1 - mask)).detach().abs().max()) == 0.0


@pytest.mark.parametrize("backbone", KINDS)
def test_network_tells_enantiomers_apart(ensembles, backbone):
    network, graph, x = _setup(ensembles, backbone, torch.float64)
    noise = torch.zeros(len(x), dtype=torch.float64)
    wrong = network(replace(graph, handedness=-graph.handedness), x, noise)
    assert _relative(wrong, network(graph, x, noise)) > 1e-4


@pytest.mark.parametrize("backbone", KINDS)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_whole_sampler_is_equivariant(ensembles, backbone, sampler):
    network, graph, x = _setup(ensembles, backbone, torch.float64)
    path = PATHS["linear"](sigma=0.1, sigma_data=1.0)
    rotation = o3.rand_matrix(dtype=torch.float64).to(torch.float64)

    def run(graph, start, turn):
        rng = torch.Generator().manual_seed(3)
        return SAMPLERS[sampler](
            lambda x, level: denoise(network, path, graph, x, x.new_full((len(x),), level)),
            start @ turn,
            path.noise_levels(4).tolist(),
            path=path,
            noise=lambda: torch.randn(x.shape, generator=rng, dtype=torch.float64) @ turn,
        )

    plain = run(graph, x, torch.eye(3, dtype=torch.float64))
    assert _relative(run(graph, x, rotation.T), plain @ rotation.T) < 1e-10
    mirrored = replace(graph, handedness=-graph.handedness)
    assert _relative(run(mirrored, x, -torch.eye(3, dtype=torch.float64)), -plain) < 1e-10


@pytest.mark.parametrize("backbone", KINDS)
def test_padding_does_not_matter(ensembles, backbone):
    network, graph, x = _setup(ensembles, backbone, torch.float64)
    alone = collate_graphs([molecule_tables(ensembles[0].molecule)])
    alone = replace(alone, handedness=alone.handedness.double())
    n = alone.mask.shape[1]
    one = network(alone, x[:1, :n], torch.zeros(1, dtype=torch.float64))
    together = network(graph, x, torch.zeros(len(x), dtype=torch.float64))
    assert _relative(together[:1, :n], one) < 1e-10


def test_dense_features_are_e3nns():
    network, _, _ = _setup_network()
    assert network.irreps == o3.Irreps("16x0e + 16x1o + 8x0o + 8x1e")
    linear = ChannelLinear("1o", 5, 7).double()
    x = torch.randn(4, 3, 5, dtype=torch.float64)
    flat = linear.linear(to_flat(x))
    assert torch.allclose(from_flat(flat, o3.Irreps("7x1o"))[0], linear(x), atol=1e-12)


def _setup_network():
    settings = NetworkSettings(channels=16, odd_channels=8, layers=1, relaxation=RelaxationSettings(mode="none"))
    return make_backbone(settings), None, None


def test_to_pyg_has_the_published_fields(ensembles):
    data = to_pyg(ensembles[0])
    assert len(data) == len(ensembles[0])
    assert data[0].edge_index.shape[1] == 2 * len(ensembles[0].molecule.graph.bonds)
    assert torch.equal(data[1].pos, torch.from_numpy(ensembles[0].positions[1]))
