"""Generation beside RDKit's own embedding."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from conformergen.commands.bench.interface import Comparison, Peer
from conformergen.commands.bench.molecules import DRUGS
from conformergen.generation.settings import GenerateSettings
from conformergen.generation.stream import Pipeline
from conformergen.io.inputs import InputRecord, read_inputs

#: Conformers of each molecule.
_N: Final = 10
#: Numbers of network evaluations that are compared.
_STEPS: Final = (1, 2, 3, 5, 10)


def generate(source: Path | None = None) -> Iterator[Comparison]:
    """Ten conformers of each molecule, by number of evaluations, beside ETKDGv3 without and with MMFF94s."""
    if source is None:
        records = [InputRecord(index=i, smiles=s, name=str(i)) for i, s in enumerate(DRUGS)]
    else:
        records = list(read_inputs(str(source)))

    def run(method: str, steps: int = 2) -> list[Any]:
        return list(Pipeline(GenerateSettings(n=_N, method=method, steps=steps)).blocks(records))

    for steps in _STEPS:
        yield Comparison(
            name=f"{len(records)} molecules, {steps} evaluations",
            unit="conformer",
            ours=lambda steps=steps: run("model", steps),  # type: ignore[misc]
            units=_N * len(records),
            peers={
                "etkdg": Peer(call=lambda: run("etkdg"), units=_N * len(records), at_least=0.5),
                "etkdg+mmff94s": Peer(call=lambda: run("etkdg+mmff94s"), units=_N * len(records)),
            },
            rounds=3,
        )
