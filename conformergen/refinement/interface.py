"""What a refiner is."""

from typing import Protocol

from conformergen.records import ConformerSet, Refined


class Refiner(Protocol):
    """Lower each conformer's energy on its own, in input order."""

    def __call__(self, conformers: ConformerSet, *, max_steps: int) -> Refined:
        """Return as many conformers as came in."""
        ...
