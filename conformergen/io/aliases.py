"""Names that earlier versions wrote into files, and what they are called now. Files of both kinds stay readable."""

from collections.abc import Mapping
from typing import Any, Final

#: Keys of the table of start structures in the configuration of a manifest.
_PAIRING_KEYS: Final = {"pool": "min_starts"}
#: Names of pairings.
PAIRINGS: Final = {"relaxed": "minimised", "turned": "perturbed"}
#: Keys of the settings of a checkpoint and of its table ``progress``.
_CHECKPOINT_KEYS: Final = {
    "seeds_mmff94s": "starts_mmff94s",
    "caution": "lr_factor",
    "skipped": "n_skipped",
    "skipped_lately": "recent_skips",
}
#: Keys of the statistics of a finished reference ensemble and of its settings.
_SEARCH_KEYS: Final = {"level": "theory", "starts_per_rotor": "starts_per_torsion"}


def _renamed(values: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {names.get(key, key): value for key, value in values.items()}


def modern_configuration(values: Mapping[str, Any]) -> dict[str, Any]:
    """Configuration of a manifest in the names of this version."""
    modern = _renamed(values, {"seeds": "starts"})
    if isinstance(modern.get("starts"), Mapping):
        modern["starts"] = _renamed(modern["starts"], _PAIRING_KEYS)
        if "pairing" in modern["starts"]:
            pairing = modern["starts"]["pairing"]
            modern["starts"]["pairing"] = PAIRINGS.get(pairing, pairing)
    if isinstance(modern.get("reference"), Mapping):
        modern["reference"] = _renamed(modern["reference"], _SEARCH_KEYS)
    return modern


def modern_checkpoint(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a checkpoint in the names of this version."""
    modern = _renamed(settings, _CHECKPOINT_KEYS)
    if isinstance(modern.get("progress"), Mapping):
        modern["progress"] = _renamed(modern["progress"], _CHECKPOINT_KEYS)
    return modern


def modern_search_stats(values: Mapping[str, Any]) -> dict[str, Any]:
    """Statistics of a finished reference ensemble in the names of this version."""
    return {**values, "settings": _renamed(values["settings"], _SEARCH_KEYS)}
