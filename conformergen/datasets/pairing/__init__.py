"""Pairings by name: which start structure is stored beside each reference. To add one: a file here and a line below."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from conformergen.datasets.pairing import assigned, minimised, perturbed
from conformergen.datasets.pairing.interface import Pairing
from conformergen.errors import InputError
from conformergen.io import aliases
from conformergen.records import ConformerSet

#: Ways of pairing references with start structures, by name.
PAIRINGS: Final[Mapping[str, Pairing]] = {
    "assigned": assigned.pair,
    "minimised": minimised.pair,
    "perturbed": perturbed.pair,
}
__all__ = ["PAIRINGS", "Pairing", "PairingSettings", "with_starts"]


@dataclass(frozen=True, kw_only=True)
class PairingSettings:
    """Start structures stored beside training conformers.

    Attributes:
        min_starts: Smallest number of start structures made for a molecule by ``assigned``; a larger ensemble gets as
            many as it has conformers.
        mmff94s: Minimise start structures with MMFF94s. Use at inference what was used in training.
        pairing: Entry of ``PAIRINGS``. ``minimised`` starts MMFF94s from the reference itself, so that start and
            reference lie in one basin and the map between them is single-valued. ``perturbed`` first rotates every
            torsion a little and restrains it, as in the candidates of ``generate``. ``assigned`` pairs independent
            ETKDGv3 conformers with references.
    """

    min_starts: int = 8
    mmff94s: bool = True
    pairing: str = "assigned"

    def __post_init__(self) -> None:
        object.__setattr__(self, "pairing", aliases.PAIRINGS.get(self.pairing, self.pairing))
        if self.pairing not in PAIRINGS:
            raise InputError(f"{self.pairing!r} is not one of {', '.join(PAIRINGS)}", setting="pairing")
        if self.pairing != "assigned" and not self.mmff94s:
            raise InputError(f"{self.pairing!r} needs start structures minimised with MMFF94s", setting="pairing")
        if self.min_starts < 1:
            raise InputError("must be at least 1", setting="min_starts")


def with_starts(conformers: ConformerSet, settings: PairingSettings, *, seed: int) -> ConformerSet:
    """Attach one start structure to each conformer, in its frame and atom order.

    Where MMFF94s has no parameters for the molecule, ``assigned`` takes the place of the other pairings.

    Raises:
        MoleculeError: ``embed`` or ``stereo`` when no start structure can be made.
    """
    for name in (settings.pairing, "assigned"):
        starts = PAIRINGS[name](conformers, min_starts=settings.min_starts, mmff94s=settings.mmff94s, seed=seed)
        if starts is not None:
            return replace(conformers, starts=starts)
    raise AssertionError("the pairing 'assigned' always gives start structures")
