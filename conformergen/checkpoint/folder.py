"""Checkpoint folders: where they are, what their digests say, and how they are written. torch is not needed here."""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from conformergen.errors import DataError, InputError
from conformergen.io.aliases import modern_checkpoint
from conformergen.runtime.files import fault_point, file_digest, replace_folder, sync_folder, temporary_name
from conformergen.torsion import TorsionModelFile

#: Version of the layout.
SCHEMA: Final = 1
#: Weights of the denoiser.
WEIGHTS: Final = "model.safetensors"
#: Weights of the ranker.
RANKER: Final = "ranker.safetensors"
#: Weights of the torsion model.
TORSION_MODEL: Final = "torsion_model.safetensors"
#: State of a training run that is not part of a model.
STATE: Final = "state.safetensors"
#: What is known about the networks: configuration, data, progress.
SETTINGS: Final = "settings.json"
#: SHA-256 of every other file.
DIGESTS: Final = "digest.json"
#: Name of the checkpoint that comes with the package.
DEFAULT: Final = "default"
#: Files of networks, by the role of the network.
NETWORK_FILES: Final[Mapping[str, str]] = {"denoiser": WEIGHTS, "ranker": RANKER, "torsion_model": TORSION_MODEL}


def shipped_checkpoints() -> Path:
    """Folder of the checkpoints that come with the package, installed or from a checkout."""
    package = Path(__file__).parent.parent / "checkpoints"
    return package if package.is_dir() else Path(__file__).parent.parent.parent / "checkpoints"


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
    """Finished checkpoints of a training run, newest first."""
    return sorted((p for p in run.glob("ckpt-*") if p.is_dir() and "tmp" not in p.name), reverse=True)


def verify(folder: Path, weights: str = WEIGHTS) -> dict[str, str]:
    """Digests of the files of a folder, after each has been compared with its file.

    Raises:
        DataError: When a file is missing or damaged, or when ``weights`` or the settings have no digest.
    """
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


def read_settings(folder: Path) -> dict[str, Any]:
    """What a checkpoint says about itself, in the names of this version.

    Raises:
        DataError: When the settings are damaged or of a newer schema.
    """
    try:
        settings = json.loads((folder / SETTINGS).read_text())
        tables = [settings.get(key, {}) for key in ("config", "ranker", "progress", "torsion_model")]
        schema = settings.get("schema", 0)
        if not (all(isinstance(table, dict) for table in tables) and isinstance(schema, int)):
            raise TypeError("not the settings of a checkpoint")
    except (ValueError, TypeError, AttributeError) as error:
        raise DataError(f"{folder / SETTINGS}: {error}") from error
    if schema > SCHEMA:
        raise DataError(f"{folder}: schema {schema} is newer than this program's {SCHEMA}")
    return {"config": {}, **modern_checkpoint(settings)}


def find_torsion_model(name: str) -> TorsionModelFile:
    """Torsion model of a checkpoint, or that of the default checkpoint where the folder has none.

    Raises:
        InputError: When there is no such checkpoint.
        DataError: When it is damaged.
    """
    folder = resolve(name)
    return torsion_model_of(folder, verify(folder))


def torsion_model_of(folder: Path, digests: Mapping[str, str]) -> TorsionModelFile:
    """The same for a verified folder."""
    if TORSION_MODEL not in digests:
        folder = shipped_checkpoints() / DEFAULT
        digests = verify(folder)
    return TorsionModelFile(path=str((folder / TORSION_MODEL).resolve()), digest=digests[TORSION_MODEL])


def write_checkpoint(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write a checkpoint folder with digests under a temporary name and rename it into place."""
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
        shutil.rmtree(temporary, ignore_errors=True)  # leave nothing behind, above all on a full disk
        raise
    if folder.exists():
        replace_folder(temporary, folder)
    else:
        os.replace(temporary, folder)
    fault_point("checkpoint.renamed")
    sync_folder(folder.parent)


def settings_bytes(settings: Mapping[str, Any]) -> bytes:
    """Content of ``settings.json``."""
    return (json.dumps(settings, indent=1) + "\n").encode()
