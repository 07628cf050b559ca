"""Tests of ``conformergen.nn.relaxation.none``."""

from conformergen.nn import RELAXATION_MODES, NetworkSettings, RelaxationSettings, make_backbone


def test_mode_none_has_no_branches():
    assert not RELAXATION_MODES["none"].has_branches
    network = make_backbone(NetworkSettings(channels=16, layers=2, relaxation=RelaxationSettings(mode="none")))
    assert network.branches() == []
