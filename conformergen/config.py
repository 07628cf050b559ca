"""A whole training run as one frozen record: defaults, then TOML, then options. Unknown keys are errors."""

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Final, TypeVar, get_type_hints

from conformergen.diffusion import DiffusionSettings
from conformergen.errors import InputError
from conformergen.nn.interface import NetworkSettings
from conformergen.nn.relaxation.interface import RelaxationSettings
from conformergen.training.settings import TrainingSettings

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Settings = TypeVar("Settings")


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Everything that a training run depends on, besides its data."""

    network: NetworkSettings = field(default_factory=NetworkSettings)
    diffusion: DiffusionSettings = field(default_factory=DiffusionSettings)
    training: TrainingSettings = field(default_factory=TrainingSettings)


#: Configurations by size: ``tiny`` for tests and the demo, ``small`` for CPU hours, ``drugs`` for all of GEOM on GPUs.
PRESETS: Final[Mapping[str, RunConfig]] = {
    "tiny": RunConfig(
        network=NetworkSettings(
            channels=32, odd_channels=8, heads=4, layers=2, n_radial=16, relaxation=RelaxationSettings(rank=8)
        ),
        training=TrainingSettings(
            steps=300, pair_budget=20_000, warmup=20, validate_every=100, checkpoint_every=100, log_every=20
        ),
    ),
    "small": RunConfig(
        network=NetworkSettings(
            channels=64, odd_channels=16, heads=8, layers=4, relaxation=RelaxationSettings(rank=16)
        )
    ),
    "drugs": RunConfig(
        network=NetworkSettings(
            channels=256, odd_channels=64, heads=8, layers=12, n_radial=32, relaxation=RelaxationSettings(rank=64)
        ),
        diffusion=DiffusionSettings(prior="harmonic", sigma=1.0, loss="mse"),
        training=TrainingSettings(
            steps=500_000, learning_rate=7e-4, warmup=5000, pair_budget=500_000, confs_per_epoch=5,
            validate_every=5000, checkpoint_every=2000, ema=0.9995, bf16=True,
        ),
    ),
}  # fmt: skip


def from_mapping(
    kind: type[Settings], values: Mapping[str, Any], *, base: Settings | None = None, where: str = ""
) -> Settings:
    """Settings of ``kind`` from nested plain data, over ``base``.

    Raises:
        InputError: For an unknown key or a value of the wrong type.
    """
    base = kind() if base is None else base
    hints = get_type_hints(kind)
    known = {f.name for f in fields(kind)}  # type: ignore[arg-type]
    changes: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{where}{key}"
        if key not in known:
            raise InputError(f"unknown setting {name!r}; known here: {', '.join(sorted(known))}")
        current = getattr(base, key)
        if is_dataclass(current):
            if not isinstance(value, Mapping):
                raise InputError(f"setting {name!r} is a table")
            changes[key] = from_mapping(type(current), value, base=current, where=f"{name}.")
            continue
        wanted = hints[key]
        if wanted is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if type(value) is not wanted:
            raise InputError(f"setting {name!r} must be {wanted.__name__}, not {value!r}")
        changes[key] = value
    return replace(base, **changes)  # type: ignore[type-var]


def load_config(preset: str, path: Path | None, overrides: list[str]) -> RunConfig:
    """Preset, then a TOML file, then ``key=value`` overrides such as ``training.steps=1000``.

    Raises:
        InputError: For an unknown preset or key, a bad value, or an unreadable file.
    """
    if preset not in PRESETS:
        raise InputError(f"{preset!r} is not one of {', '.join(PRESETS)}", setting="preset")
    config = PRESETS[preset]
    if path is not None:
        try:
            config = from_mapping(RunConfig, tomllib.loads(path.read_text()), base=config)
        except OSError as error:
            raise InputError(str(error), setting="config") from error
        except ValueError as error:  # no TOML, or no UTF-8
            raise InputError(f"{path}: {error}", setting="config") from error
    for override in overrides:
        config = from_mapping(RunConfig, parse_override(override), base=config)
    return config


def parse_override(text: str) -> dict[str, Any]:
    """Nested data of ``a.b=value``; the value is TOML or a bare word.

    Raises:
        InputError: Without an equals sign.
    """
    key, equals, raw = text.partition("=")
    if not equals:
        raise InputError(f"{text!r} is not key=value, for example training.steps=1000", setting="set")
    try:
        value = tomllib.loads(f"value = {raw}")["value"]
    except tomllib.TOMLDecodeError:
        value = raw
    nested: dict[str, Any] = {}
    inner = nested
    parts = key.strip().split(".")
    for part in parts[:-1]:
        inner = inner.setdefault(part, {})
    inner[parts[-1]] = value
    return nested


def to_json(config: Any) -> str:
    """Settings as JSON text, keys in the order of the classes."""
    return json.dumps(asdict(config), indent=1)
