"""Speed beside a peer, in one run. To add a stage: a file beside these and a line here."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from conformergen.commands.bench import generation, rmsd, scoring, startup
from conformergen.commands.bench.interface import Comparison, Measured, Peer, measure, summary, versions

#: Comparisons of each stage.
STAGES: Final[Mapping[str, Callable[[Path | None], Iterator[Comparison]]]] = {
    "rmsd": rmsd.usual,
    "rmsd-hard": rmsd.hard,
    "evaluate": scoring.evaluate,
    "generate": generation.generate,
    "startup": startup.startup,
}

__all__ = ["STAGES", "Comparison", "Measured", "Peer", "measure", "summary", "versions"]
