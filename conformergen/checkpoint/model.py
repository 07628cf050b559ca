"""Models for inference: a denoiser, where there is one a ranker, and a torsion model."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from conformergen.checkpoint.folder import (
    DEFAULT,
    NETWORK_FILES,
    RANKER,
    SCHEMA,
    SETTINGS,
    WEIGHTS,
    read_settings,
    resolve,
    settings_bytes,
    torsion_model_of,
    verify,
)
from conformergen.config import RunConfig, from_mapping
from conformergen.diffusion import DiffusionSettings
from conformergen.errors import DataError
from conformergen.nn import Backbone, NetworkSettings, make_backbone
from conformergen.nn.energy import EnergyNetwork
from conformergen.torsion import TorsionModelFile
from conformergen.version import __version__

Module = TypeVar("Module", bound=torch.nn.Module)


@dataclass(frozen=True, eq=False, kw_only=True)
class Model:
    """The networks of a checkpoint, ready for generation.

    Attributes:
        network: Denoiser in evaluation mode.
        diffusion: Prior and path that it was trained for.
        name: Name of the checkpoint.
        torsion_model: Draws the torsions of the starts; that of the default checkpoint where the folder has none.
        digests: SHA-256 of the weights of each network, by its role.
        starts_mmff94s: Whether its start structures are minimised with MMFF94s.
        ranker: Orders candidates by predicted GFN2-xTB energy; None for a model without a ranker.
        settings: Everything stored beside the weights.
    """

    network: Backbone
    diffusion: DiffusionSettings
    name: str
    torsion_model: TorsionModelFile
    digests: Mapping[str, str]
    starts_mmff94s: bool = True
    ranker: EnergyNetwork | None = None
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Name and beginning of the digest of the denoiser, such as ``default:90b8f40668c5``."""
        return f"{self.name}:{self.digests['denoiser'][:12]}"


def load_model(name: str | Path = DEFAULT, *, device: str | torch.device = "cpu") -> Model:
    """Load a checkpoint by name (shipped), folder or training run; digests are checked.

    Raises:
        InputError: When there is no such checkpoint.
        DataError: When it is damaged or of a newer schema.
    """
    folder = resolve(str(name))
    files = verify(folder)
    settings = read_settings(folder)
    config = from_mapping(RunConfig, settings["config"])
    torsion_model = torsion_model_of(folder, files)
    digests = {role: files[file] for role, file in NETWORK_FILES.items() if file in files}
    return Model(
        network=_filled(lambda: make_backbone(config.network), folder / WEIGHTS, device),
        diffusion=config.diffusion,
        name=str(settings.get("name") or folder.name),
        torsion_model=torsion_model,
        digests=digests | {"torsion_model": torsion_model.digest},
        starts_mmff94s=bool(settings.get("starts_mmff94s", True)),
        ranker=_ranker(folder, settings, device) if RANKER in files else None,
        settings=settings,
    )


def load_ranker(folder: Path, *, device: str | torch.device = "cpu") -> EnergyNetwork:
    """Ranker of a model folder or of a ``train-ranker`` run; digests are checked.

    Raises:
        DataError: When it is missing or damaged.
    """
    verify(folder, RANKER)
    return _ranker(folder, read_settings(folder), device)


def _ranker(folder: Path, settings: dict[str, Any], device: str | torch.device) -> EnergyNetwork:
    network = from_mapping(NetworkSettings, settings.get("ranker", {}).get("network", {}))
    return _filled(lambda: EnergyNetwork(network), folder / RANKER, device)


def _filled(make: Callable[[], Module], path: Path, device: str | torch.device) -> Module:
    """A network with the weights of a verified file, ready for inference."""
    try:
        network = make()
        network.load_state_dict(load(path.read_bytes()))
    except (SafetensorError, RuntimeError, ValueError, ArithmeticError, MemoryError) as error:
        raise DataError(f"{path.parent}: the weights do not fit the settings ({error})") from error
    for parameter in network.parameters():
        parameter.requires_grad = False
    return network.to(device).eval()


def tensor_bytes(network: torch.nn.Module) -> bytes:
    """Weights of a network as the content of a safetensors file."""
    return save({k: v.detach().cpu().contiguous() for k, v in network.state_dict().items()})


def model_files(network: Backbone, config: RunConfig, **extra: Any) -> dict[str, bytes]:
    """Weights and settings of a denoiser as file contents; ``extra`` are further entries of the settings."""
    settings = {
        "schema": SCHEMA,
        "program": f"conformergen {__version__}",
        "torch": torch.__version__,
        **extra,
        "config": asdict(config),
    }
    return {WEIGHTS: tensor_bytes(network), SETTINGS: settings_bytes(settings)}


def ranker_files(ranker: EnergyNetwork, **record: Any) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Weights of a ranker as file contents, and what the settings of its model say about it."""
    return {RANKER: tensor_bytes(ranker)}, {"network": asdict(ranker.settings), **record}


def without_branches(network: Backbone, settings: NetworkSettings) -> Backbone:
    """The same network without relaxed branches: its outputs at beta = 0, bit for bit."""
    exact = make_backbone(replace(settings, relaxation=replace(settings.relaxation, mode="none")))
    wanted = exact.state_dict().keys()
    exact.load_state_dict({k: v for k, v in network.state_dict().items() if k in wanted})
    return exact.eval()
