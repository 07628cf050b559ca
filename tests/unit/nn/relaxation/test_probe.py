"""Tests of ``conformergen.nn.relaxation.probe``."""

from conformergen.nn import NetworkSettings, RelaxationSettings, make_backbone


def test_learned_probe_has_weights_of_its_own():
    def n_weights(probe):
        relaxation = RelaxationSettings(mode="recm", rank=2, probe=probe)
        network = make_backbone(NetworkSettings(channels=16, layers=1, relaxation=relaxation))
        return sum(p.numel() for p in network.parameters())

    assert n_weights("mlp") > n_weights(RelaxationSettings().probe)
