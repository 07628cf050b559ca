"""What a stage yields, and how it is timed and summed up.

Our code and its peers run in turns. A figure is the median over the rounds of process CPU time, children included. A
ratio compares two timings of one run, so that a busy machine slows both.
"""

import math
import os
import platform
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import rdkit

from conformergen.runtime.cpu_time import cpu_seconds
from conformergen.version import __version__

#: Repeats of each timing.
_ROUNDS: Final = 5
#: Shortest timing, CPU seconds.
_SHORTEST: Final = 0.05


@dataclass(frozen=True, kw_only=True)
class Peer:
    """Another way to the same result.

    Attributes:
        call: Does ``units`` units of the work.
        units: A sample of the work where a peer is too slow for all of it.
        at_least: Wanted ratio of its CPU time per unit to ours; None where nothing is promised.
    """

    call: Callable[[], object]
    units: int
    at_least: float | None = None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One piece of fixed work.

    Attributes:
        name: What is worked on.
        unit: What one unit is.
        ours: Does ``units`` units.
        units: Their number.
        peers: By name.
        facts: Called once after the timing: deviations and the like.
        rounds: Repeats.
    """

    name: str
    unit: str
    ours: Callable[[], object]
    units: int
    peers: Mapping[str, Peer]
    facts: Callable[[], Mapping[str, Any]] = field(default=dict)
    rounds: int = _ROUNDS


@dataclass(frozen=True, kw_only=True)
class Measured:
    """CPU microseconds per unit, and ratios of each peer to ours."""

    name: str
    unit: str
    ours: float
    peers: dict[str, float]
    ratios: dict[str, float]
    facts: dict[str, Any]


def _timed(call: Callable[[], object], units: int) -> float:
    """CPU microseconds per unit; short work is repeated until it can be measured."""
    began, calls = cpu_seconds(), 0
    while True:
        call()
        calls += 1
        spent = cpu_seconds() - began
        if spent >= _SHORTEST:
            return spent / (calls * units) * 1e6


def measure(work: Comparison) -> Measured:
    """Time ours and the peers, interleaved."""
    own: list[float] = []
    others: dict[str, list[float]] = {name: [] for name in work.peers}
    for _ in range(work.rounds):
        own.append(_timed(work.ours, work.units))
        for name, peer in work.peers.items():
            others[name].append(_timed(peer.call, peer.units))
    ours = statistics.median(own)
    peers = {name: statistics.median(values) for name, values in others.items()}
    return Measured(
        name=work.name,
        unit=work.unit,
        ours=ours,
        peers=peers,
        ratios={name: value / ours for name, value in peers.items()},
        facts=dict(work.facts()),
    )


def versions() -> dict[str, str]:
    """What the figures depend on."""
    return {
        "conformergen": __version__,
        "rdkit": rdkit.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
    }


def summary(works: Sequence[Comparison], measured: Sequence[Measured]) -> dict[str, dict[str, Any]]:
    """Geometric mean of the ratios to each peer, over the work for which one is promised, and whether it is reached."""
    lines: dict[str, dict[str, Any]] = {}
    for name in works[0].peers:
        promised = works[0].peers[name].at_least
        ratios = [m.ratios[name] for w, m in zip(works, measured, strict=True) if w.peers[name].at_least == promised]
        ratio = math.exp(statistics.fmean(math.log(r) for r in ratios))
        lines[name] = {"ratio": ratio, "promised": promised}
        if promised is not None:
            lines[name]["kept"] = ratio >= promised
    return lines
