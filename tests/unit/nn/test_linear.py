"""Tests of ``conformergen.nn.linear``."""

import torch
from e3nn import o3

from conformergen.nn import NetworkSettings, RelaxationSettings, make_backbone
from conformergen.nn.linear import ChannelLinear, from_flat, to_flat


def _setup_network():
    settings = NetworkSettings(channels=16, odd_channels=8, layers=1, relaxation=RelaxationSettings(mode="none"))
    return make_backbone(settings), None, None


def test_dense_features_are_e3nns():
    network, _, _ = _setup_network()
    assert network.irreps == o3.Irreps("16x0e + 16x1o + 8x0o + 8x1e")
    linear = ChannelLinear("1o", 5, 7).double()
    x = torch.randn(4, 3, 5, dtype=torch.float64)
    flat = linear.linear(to_flat(x))
    assert torch.allclose(from_flat(flat, o3.Irreps("7x1o"))[0], linear(x), atol=1e-12)
