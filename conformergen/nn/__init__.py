"""Networks: backbones by name, and their relaxed layers."""

from collections.abc import Callable, Mapping
from typing import Final

from conformergen.errors import InputError
from conformergen.nn.headwise import HeadwiseNetwork
from conformergen.nn.interface import Backbone, NetworkSettings
from conformergen.nn.relaxation import RELAXATION_MODES, RelaxationMode, RelaxationSettings, RelaxedBranch


def _tensor_product(settings: NetworkSettings) -> Backbone:
    """Import torch-geometric (3 CPU seconds) only where this backbone is asked for."""
    from conformergen.nn.tensor_product import TensorProductNetwork

    return TensorProductNetwork(settings)


#: Backbones by name.
BACKBONES: Final[Mapping[str, Callable[[NetworkSettings], Backbone]]] = {
    "headwise": HeadwiseNetwork,
    "tensor-product": _tensor_product,
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
    if settings.backbone not in BACKBONES:
        raise InputError(f"backbone {settings.backbone!r} is not one of {', '.join(BACKBONES)}")
    return BACKBONES[settings.backbone](settings)
