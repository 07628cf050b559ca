"""The state of a training run: what it needs to continue bit for bit, besides the averaged weights."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch.optim.swa_utils import AveragedModel

from conformergen.checkpoint.folder import (
    RANKER,
    SCHEMA,
    SETTINGS,
    STATE,
    WEIGHTS,
    read_settings,
    settings_bytes,
    verify,
    write_checkpoint,
)
from conformergen.checkpoint.model import model_files, ranker_files
from conformergen.config import RunConfig
from conformergen.errors import DataError, OtherRunError
from conformergen.nn import Backbone
from conformergen.nn.energy import EnergyNetwork
from conformergen.version import __version__


@runtime_checkable
class Resumable(Protocol):
    """What a checkpoint stores of a trainer, besides its own counters."""

    average: AveragedModel

    @property
    def network(self) -> torch.nn.Module:
        """The network that is trained."""
        ...

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """Its optimiser."""
        ...


def save_run(
    folder: Path, run: Resumable, averaged: Backbone, config: RunConfig, progress: Mapping[str, Any], **extra: Any
) -> None:
    """Commit the averaged weights as a model, and the training state beside them.

    Args:
        folder: Checkpoint folder.
        run: Network, average and optimiser.
        averaged: Network with the averaged weights.
        config: The whole run.
        progress: Counters of the trainer, as plain data.
        extra: Further entries of the settings.
    """
    files = model_files(averaged, config, **extra, progress=dict(progress))
    write_checkpoint(folder, files | {STATE: state_bytes(run)})


def load_run(folder: Path, run: Resumable, config: RunConfig) -> dict[str, Any]:
    """Restore a training state; returns the settings of the checkpoint, with the entry ``progress``.

    Raises:
        DataError: When the checkpoint is damaged.
        OtherRunError: When it belongs to a run of other settings.
    """
    verify(folder)
    settings = read_settings(folder)
    if settings["config"] != asdict(config):
        raise OtherRunError(f"{folder} was made with other settings; resume with the same preset, file and flags")
    restore(folder, run, weights=WEIGHTS)
    return settings


def state_bytes(run: Resumable) -> bytes:
    """Weights, number of averaged steps and moments of the optimiser as the content of a safetensors file."""
    state: dict[str, torch.Tensor] = {f"network.{k}": v for k, v in run.network.state_dict().items()}
    state["n_averaged"] = run.average.n_averaged
    for index, values in run.optimizer.state_dict()["state"].items():
        state |= {f"optimizer.{index}.{k}": v for k, v in values.items()}
    return save({k: v.detach().cpu().clone().contiguous() for k, v in state.items()})


def restore(folder: Path, run: Resumable, *, weights: str) -> None:
    """Put a stored state and the averaged weights of the file ``weights`` back.

    Raises:
        DataError: When a file cannot be read.
    """
    try:
        state = load((folder / STATE).read_bytes())
        averaged = load((folder / weights).read_bytes())
    except (SafetensorError, OSError) as error:
        raise DataError(f"{folder}: unreadable training state ({error})") from error
    run.network.load_state_dict({k[8:]: v for k, v in state.items() if k.startswith("network.")})
    run.average.module.load_state_dict(averaged)
    run.average.n_averaged.copy_(state["n_averaged"])
    moments: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in state.items():
        if key.startswith("optimizer."):
            _, index, name = key.split(".")
            moments.setdefault(int(index), {})[name] = value
    stored = run.optimizer.state_dict()
    run.optimizer.load_state_dict({"state": moments, "param_groups": stored["param_groups"]})


def save_ranker_run(
    folder: Path,
    run: Resumable,
    averaged: EnergyNetwork,
    files: Mapping[str, bytes],
    *,
    step: int,
    finished: bool,
    **record: Any,
) -> None:
    """Commit the averaged ranker, what is known of it, and other files; before the end the training state too."""
    weights, about = ranker_files(averaged, **record)
    settings = {"schema": SCHEMA, "program": f"conformergen {__version__}", "step": step, "ranker": about}
    contents = {**files, **weights, SETTINGS: settings_bytes(settings)}
    write_checkpoint(folder, contents if finished else contents | {STATE: state_bytes(run)})


def ranker_record(folder: Path, identity: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
    """What a ``train-ranker`` run says about itself, and whether it is finished.

    Raises:
        DataError: When it is damaged.
        OtherRunError: When an entry of its record is not that of ``identity``.
    """
    digests = verify(folder, RANKER)
    about: dict[str, Any] = read_settings(folder)["ranker"]
    if any(about.get(key) != value for key, value in identity.items()):
        raise OtherRunError(f"{folder} was made with other settings or data; resume with the same flags")
    return about, STATE not in digests


def load_ranker_run(folder: Path, run: Resumable) -> int:
    """Restore a run that ``ranker_record`` has checked; returns its step."""
    restore(folder, run, weights=RANKER)
    return int(read_settings(folder)["step"])
