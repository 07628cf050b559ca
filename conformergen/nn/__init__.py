"""Networks: backbones by name, and their relaxed layers."""

from collections.abc import Mapping
from typing import Final

from conformergen.nn.headwise import HeadwiseNetwork
from conformergen.nn.interface import Backbone, NetworkSettings
from conformergen.nn.relaxation import RELAXATION_MODES, RelaxationMode, RelaxationSettings, RelaxedBranch
from conformergen.nn.tensor_product import TensorProductNetwork

BACKBONES: Final[Mapping[str, type[Backbone]]] = {
    "headwise": HeadwiseNetwork,
    "tensor-product": TensorProductNetwork,
}

__all__ = [
    "BACKBONES",
    "RELAXATION_MODES",
    "Backbone",
    "NetworkSettings",
    "RelaxationMode",
    "RelaxationSettings",
    "RelaxedBranch",
    "make_backbone",
]


def make_backbone(settings: NetworkSettings) -> Backbone:
    """Network of the given settings.

    Raises:
        InputError: For an unknown backbone.
    """
    from conformergen.errors import InputError

    if settings.backbone not in BACKBONES:
        raise InputError(f"backbone {settings.backbone!r} is not one of {', '.join(BACKBONES)}")
    return BACKBONES[settings.backbone](settings)
