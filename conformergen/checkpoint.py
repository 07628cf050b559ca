"""Weights and the settings that made them: safetensors, JSON and digests, never a pickle."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from conformergen import __version__
from conformergen.config import RunConfig, from_mapping
from conformergen.datasets.shards import file_digest
from conformergen.diffusion import DiffusionSettings
from conformergen.errors import DataError, InputError
from conformergen.nn import Backbone, NetworkSettings, make_backbone
from conformergen.nn.energy import EnergyNetwork
from conformergen.storage import fault_point, replace_folder, sync_folder, temporary_name
from conformergen.training.loop import Trainer
from conformergen.training.ranking import RankerTrainer

Module = TypeVar("Module", bound=torch.nn.Module)

SCHEMA: Final = 1
WEIGHTS: Final = "model.safetensors"
SETTINGS: Final = "settings.json"
STATE: Final = "state.safetensors"
RANKER: Final = "ranker.safetensors"
DIGESTS: Final = "digest.json"
DEFAULT: Final = "default"


@dataclass(frozen=True, eq=False, kw_only=True)
class Model:
    """A network ready to sample, with its noise process.

    Attributes:
        network: In evaluation mode.
        diffusion: Prior and path it was trained for.
        name: Of the checkpoint.
        seeds_mmff94s: Whether its seed conformers are MMFF94s-minimised.
        ranker: Orders force-field conformers by predicted GFN2-xTB energy before they go through the network;
            None for a model without one.
        settings: Everything stored beside the weights.
        digest: SHA-256 of the weights.
    """

    network: Backbone
    diffusion: DiffusionSettings
    name: str
    seeds_mmff94s: bool = True
    ranker: EnergyNetwork | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    digest: str = ""


def shipped_checkpoints() -> Path:
    """Folder of the checkpoints that come with the package, installed or from a checkout."""
    package = Path(__file__).parent / "checkpoints"
    return package if package.is_dir() else Path(__file__).parent.parent / "checkpoints"


def resolve(name: str) -> Path:
    """Folder of a checkpoint by name, model folder or training run.

    Raises:
        InputError: When there is none.
    """
    path = Path(name)
    if (path / WEIGHTS).is_file():
        return path
    if path.is_dir():
        best = path / "best"
        if (best / WEIGHTS).is_file():
            return best
        newest = find_checkpoints(path)
        if newest:
            return newest[0]
        raise InputError(f"{name}: no checkpoint in this folder")
    shipped = shipped_checkpoints() / name
    if (shipped / WEIGHTS).is_file():
        return shipped
    known = sorted(p.parent.name for p in shipped_checkpoints().glob(f"*/{WEIGHTS}"))
    raise InputError(f"{name!r} is neither a checkpoint folder nor one of {', '.join(known) or 'none shipped'}")


def find_checkpoints(run: Path) -> list[Path]:
    """Finished checkpoints of a run, newest first, found by scanning."""
    return sorted((p for p in run.glob("ckpt-*") if p.is_dir() and "tmp" not in p.name), reverse=True)


def _verify(folder: Path, weights: str = WEIGHTS) -> dict[str, str]:
    try:
        digests: dict[str, str] = json.loads((folder / DIGESTS).read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"{folder}: no readable {DIGESTS}") from error
    for name, digest in digests.items():
        path = folder / name
        if path.parent != folder or not path.is_file() or file_digest(path) != digest:
            raise DataError(f"{path}: SHA-256 differs from {DIGESTS}")
    if weights not in digests or SETTINGS not in digests:
        raise DataError(f"{folder}: {DIGESTS} does not cover {weights} and {SETTINGS}")
    return digests


def load_model(name: str | Path = DEFAULT, *, device: str | torch.device = "cpu") -> Model:
    """Load a checkpoint by name (shipped), folder or training run; digests are checked.

    Raises:
        InputError: When there is no such checkpoint.
        DataError: When it is damaged or of a newer schema.
    """
    folder = resolve(str(name))
    digests = _verify(folder)
    settings = _settings(folder)
    config = from_mapping(RunConfig, settings["config"])
    return Model(
        network=_filled(lambda: make_backbone(config.network), folder / WEIGHTS, device),
        diffusion=config.diffusion,
        name=str(settings.get("name") or folder.name),
        seeds_mmff94s=bool(settings.get("seeds_mmff94s", True)),
        ranker=_ranker(folder, settings, device) if RANKER in digests else None,
        settings=settings,
        digest=digests[WEIGHTS],
    )


def ranker_files(ranker: EnergyNetwork, **record: Any) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Weights of a ranker as file contents, and what its model's settings say about it."""
    return {RANKER: _tensor_bytes(ranker)}, {"network": asdict(ranker.settings), **record}


def load_ranker(folder: Path, *, device: str | torch.device = "cpu") -> EnergyNetwork:
    """Ranker of a model folder or of a ``train-ranker`` run; digests are checked.

    Raises:
        DataError: When it is missing or damaged.
    """
    _verify(folder, RANKER)
    return _ranker(folder, _settings(folder), device)


def _settings(folder: Path) -> dict[str, Any]:
    """What a checkpoint says about itself."""
    try:
        settings = json.loads((folder / SETTINGS).read_text())
        tables = [settings.get(key, {}) for key in ("config", "ranker", "progress")]
        schema = settings.get("schema", 0)
        if not (all(isinstance(table, dict) for table in tables) and isinstance(schema, int)):
            raise TypeError("not the settings of a checkpoint")
    except (ValueError, TypeError, AttributeError) as error:
        raise DataError(f"{folder / SETTINGS}: {error}") from error
    if schema > SCHEMA:
        raise DataError(f"{folder}: schema {schema} is newer than this program's {SCHEMA}")
    return {"config": {}, **settings}


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


def _tensor_bytes(network: torch.nn.Module) -> bytes:
    return save({k: v.detach().cpu().contiguous() for k, v in network.state_dict().items()})


def write_checkpoint(folder: Path, files: dict[str, bytes]) -> None:
    """Write a checkpoint folder under a temporary name, with digests, and rename it into place."""
    temporary = temporary_name(folder)
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    try:
        for name, content in {**files, DIGESTS: (json.dumps(digests, indent=1) + "\n").encode()}.items():
            with (temporary / name).open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            fault_point("checkpoint.file")
        sync_folder(temporary)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)  # above all on a full disk
        raise
    if folder.exists():
        replace_folder(temporary, folder)
    else:
        os.replace(temporary, folder)
    fault_point("checkpoint.renamed")
    sync_folder(folder.parent)


def model_files(network: Backbone, config: RunConfig, **extra: Any) -> dict[str, bytes]:
    """Weights and settings of a network as file contents."""
    settings = {
        "schema": SCHEMA,
        "program": f"conformergen {__version__}",
        "torch": torch.__version__,
        **extra,
        "config": asdict(config),
    }
    return {WEIGHTS: _tensor_bytes(network), SETTINGS: (json.dumps(settings, indent=1) + "\n").encode()}


def save_training(folder: Path, trainer: Trainer, config: RunConfig, **extra: Any) -> None:
    """Commit the full training state: averaged weights as the model, the rest beside it."""
    progress = {
        "step": trainer.step,
        "epoch": trainer.epoch,
        "cursor": trainer.cursor,
        "skipped": trainer.n_skipped,
        "skipped_lately": trainer.skipped,
        "caution": trainer.caution,
    }
    files = model_files(trainer.averaged, config, **extra, progress=progress)
    files[STATE] = _state_bytes(trainer)
    write_checkpoint(folder, files)


def _state_bytes(trainer: Trainer | RankerTrainer) -> bytes:
    """What a run goes on from, beside the averaged weights."""
    state: dict[str, torch.Tensor] = {f"network.{k}": v for k, v in trainer.network.state_dict().items()}
    state["n_averaged"] = trainer.average.n_averaged
    for index, values in trainer.optimizer.state_dict()["state"].items():
        state |= {f"optimizer.{index}.{k}": v for k, v in values.items()}
    return save({k: v.detach().cpu().clone().contiguous() for k, v in state.items()})


def _restore(folder: Path, trainer: Trainer | RankerTrainer, *, weights: str) -> None:
    """Put the state of ``_state_bytes`` and the averaged weights back."""
    try:
        state = load((folder / STATE).read_bytes())
        averaged = load((folder / weights).read_bytes())
    except (SafetensorError, OSError) as error:
        raise DataError(f"{folder}: unreadable training state ({error})") from error
    trainer.network.load_state_dict({k[8:]: v for k, v in state.items() if k.startswith("network.")})
    trainer.average.module.load_state_dict(averaged)
    trainer.average.n_averaged.copy_(state["n_averaged"])
    moments: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in state.items():
        if key.startswith("optimizer."):
            _, index, name = key.split(".")
            moments.setdefault(int(index), {})[name] = value
    stored = trainer.optimizer.state_dict()
    trainer.optimizer.load_state_dict({"state": moments, "param_groups": stored["param_groups"]})


def load_training(folder: Path, trainer: Trainer, config: RunConfig) -> dict[str, Any]:
    """Continue from a checkpoint; returns its settings.

    Raises:
        DataError: When it is damaged, or belongs to a run of other settings.
    """
    _verify(folder)
    settings = _settings(folder)
    if settings["config"] != asdict(config):
        raise DataError(f"{folder} was made with other settings; resume with the same preset, file and flags")
    _restore(folder, trainer, weights=WEIGHTS)
    progress = settings["progress"]
    trainer.step, trainer.epoch, trainer.cursor = progress["step"], progress["epoch"], progress["cursor"]
    trainer.n_skipped = progress["skipped"]
    trainer.skipped, trainer.caution = progress.get("skipped_lately", []), progress.get("caution", 1.0)
    return settings


def save_ranking(folder: Path, trainer: RankerTrainer, files: dict[str, bytes], **record: Any) -> None:
    """Commit the averaged ranker, what is known of it and other files; before the last step, its training state too."""
    weights, about = ranker_files(trainer.averaged, **record)
    settings = {"schema": SCHEMA, "program": f"conformergen {__version__}", "step": trainer.step, "ranker": about}
    files = files | weights | {SETTINGS: (json.dumps(settings, indent=1) + "\n").encode()}
    if trainer.step < trainer.settings.steps:
        files[STATE] = _state_bytes(trainer)
    write_checkpoint(folder, files)


def ranking_record(folder: Path, identity: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
    """What a ``train-ranker`` run says about itself, and whether it is finished.

    Raises:
        DataError: When it is damaged, or not of this ``identity``: entries of the record.
    """
    digests = _verify(folder, RANKER)
    about: dict[str, Any] = _settings(folder)["ranker"]
    if any(about.get(key) != value for key, value in identity.items()):
        raise DataError(f"{folder} was made with other settings or data; resume with the same flags")
    return about, STATE not in digests


def load_ranking(folder: Path, trainer: RankerTrainer) -> None:
    """Continue from a folder that ``ranking_record`` has checked."""
    _restore(folder, trainer, weights=RANKER)
    trainer.step = _settings(folder)["step"]


def exact_state(network: Backbone, settings: NetworkSettings) -> Backbone:
    """The same network without relaxed branches: its outputs at beta = 0, bit for bit."""
    plain = make_backbone(replace(settings, relaxation=replace(settings.relaxation, mode="none")))
    wanted = plain.state_dict().keys()
    plain.load_state_dict({k: v for k, v in network.state_dict().items() if k in wanted})
    return plain.eval()
