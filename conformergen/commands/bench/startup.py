"""Start-up of the program beside what it must not import."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from conformergen.commands.bench.interface import Comparison, Peer


def _run(*arguments: str) -> None:
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)


def startup(source: Path | None = None) -> Iterator[Comparison]:
    """``--help`` and ``--version``."""
    del source
    for flag in ("--help", "--version"):
        yield Comparison(
            name=f"conformergen {flag}",
            unit="start",
            ours=lambda flag=flag: _run("-m", "conformergen", flag),  # type: ignore[misc]
            units=1,
            peers={"import torch": Peer(call=lambda: _run("-c", "import torch"), units=1, at_least=3.0)},
        )
