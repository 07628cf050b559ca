"""Depth of the search for reference ensembles."""

from dataclasses import dataclass
from typing import Any, Final

from conformergen.errors import InputError

#: Levels of theory of the final geometries and energies.
THEORIES: Final = ("gfn2-xtb", "gfn-ff")
#: CREST's ladder of metadynamics: strength of the push (hartree per atom) and width of the Gaussians (bohr^-2).
METADYNAMICS_LADDER: Final = ((0.003, 1.3), (0.0015, 0.78), (0.003, 0.468), (0.0015, 0.281))


@dataclass(frozen=True, kw_only=True)
class ReferenceSettings:
    """Depth of the search.

    Attributes:
        theory: Level of theory of the final geometries and energies, one of ``THEORIES``.
        engine: Entry of ``refinement.engines.ENGINES``; ``auto`` takes what is installed.
        ewin: Energy window of the result, kcal/mol.
        starts_per_torsion: Starts for each rotatable bond; a flexible ring counts as two.
        min_starts: Smallest number of starts.
        max_starts: Largest number of starts.
        md_runs: Metadynamics runs, at most the length of the ladder.
        md_ps: Length of each run, ps.
        forcefield_window: Energy window on the GFN-FF surface, kcal/mol.
        screen_window: Energy window of the GFN2-xTB single points, kcal/mol.
        max_crude: Largest number of structures in the crude optimisation.
        max_final: Largest number of structures in the final optimisation.
        crossings: Largest number of rounds of crossing; they end when a round finds nothing new.
        children: Structures made in one round: for each minimum, at least, and at most.
    """

    theory: str = "gfn2-xtb"
    engine: str = "auto"
    ewin: float = 6.0
    starts_per_torsion: int = 30
    min_starts: int = 60
    max_starts: int = 300
    md_runs: int = 4
    md_ps: float = 8.0
    forcefield_window: float = 14.0
    screen_window: float = 12.0
    max_crude: int = 150
    max_final: int = 100
    crossings: int = 3
    children: tuple[int, int, int] = (3, 30, 150)

    def __post_init__(self) -> None:
        if self.theory not in THEORIES:
            raise InputError(f"{self.theory!r} is not one of {', '.join(THEORIES)}", setting="theory")
        if self.ewin <= 0 or self.min_starts < 1 or self.max_starts < self.min_starts:
            raise InputError("reference: ewin > 0 and 1 <= min_starts <= max_starts are required")
        if not 0 <= self.md_runs <= len(METADYNAMICS_LADDER):
            raise InputError(f"must lie between 0 and {len(METADYNAMICS_LADDER)}", setting="md_runs")

    @classmethod
    def lean(cls, *, theory: str = "gfn2-xtb", **changes: Any) -> "ReferenceSettings":
        """Shorter search without crossing, for training sets.

        GFN2-xTB: half the starts, two short runs, the 30 lowest conformers. GFN-FF: a fifth of the starts, one short
        run, the 50 lowest conformers.
        """
        size: dict[str, Any] = {"starts_per_torsion": 15, "min_starts": 30, "max_starts": 150, "md_runs": 2}
        kept: dict[str, Any] = {"max_crude": 50, "max_final": 30}
        if theory == "gfn-ff":
            size = {"starts_per_torsion": 6, "min_starts": 16, "max_starts": 40, "md_runs": 1}
            kept = {"max_final": 50}
        return cls(**{"theory": theory, "md_ps": 4.0, "crossings": 0, **size, **kept, **changes})

    @classmethod
    def thorough(cls, **changes: Any) -> "ReferenceSettings":
        """Search for very flexible molecules: four times as many structures and more rounds of crossing."""
        kept: dict[str, Any] = {"max_crude": 600, "max_final": 400, "crossings": 6, "children": (3, 30, 400)}
        return cls(**{**kept, **changes})
