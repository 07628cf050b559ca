"""How conformers are generated, and the counts of a run."""

from dataclasses import asdict, dataclass
from typing import Final

from conformergen.chem.isomers import STEREO_POLICIES
from conformergen.errors import InputError
from conformergen.refinement import REFINERS
from conformergen.runtime.files import json_digest
from conformergen.torsion.constraints import Constraints
from conformergen.version import __version__

#: Methods without a network; a model starts from the structures of one of them.
START_METHODS: Final = ("etkdg", "etkdg+mmff94s", "torsion+mmff94s")
#: GFN-FF minima from metadynamics, which are the first stages of ``reference``: tens of CPU seconds for each molecule.
SEARCH: Final = "gfnff"
#: Everything that ``method`` may be.
METHODS: Final = ("model", *START_METHODS, SEARCH)
#: Treatment of salts and mixtures: keep the largest organic fragment, or refuse them.
FRAGMENT_POLICIES: Final = ("largest", "error")
#: Which minima of a search are returned: the lowest, or the lowest followed by those farthest from all before.
SELECTIONS: Final = ("lowest", "diverse")
#: Number of conformers by flexibility: (largest number of rotatable bonds, conformers); Ebejer, Morris, Deane 2012, doi
#: 10.1021/ci2004658.
_AUTOMATIC_COUNTS: Final = ((7, 50), (12, 200))
#: The same for all more flexible molecules.
_MAX_AUTOMATIC_COUNT: Final = 300


@dataclass(frozen=True, kw_only=True)
class GenerateSettings:
    """How conformers are generated.

    Attributes:
        n: Conformers of each molecule; 0 for a number by flexibility.
        per_reference: When positive, n is this multiple of the input's ``n_conformers`` (2 for the 2K protocol).
        method: Entry of ``METHODS``.
        start: Where a model starts: entry of ``START_METHODS``, or ``auto`` for what suits the checkpoint.
        candidates_per_conformer: Minima that a torsion search makes for each conformer asked for.
        ewin: Energy window above the lowest conformer, kcal/mol, of a search and of refined energies. None for the
            method's own window, and for none after refinement.
        rms: Conformers closer than this to a better one are left out; Å, heavy atoms, symmetry-aware. None keeps all.
        checkpoint: Name or path of the model.
        sampler: Entry of ``sampling.SAMPLERS``.
        rounds: Rounds of a model with a ranker; the final one takes two network evaluations, the others one. A model
            without a ranker takes ``rounds + 1`` steps of one integration.
        steps: Network evaluations in all; overrides ``rounds``.
        select: Entry of ``SELECTIONS``, for methods that find more than ``n`` conformers.
        seed: Seed of all random numbers.
        refine: Entry of ``REFINERS``, applied after sampling; conformers are then sorted by energy.
        max_refine_steps: Largest number of iterations of the refiner.
        stereo: Entry of ``STEREO_POLICIES``.
        fragments: Entry of ``FRAGMENT_POLICIES``.
        constraints: A fixed core and fixed torsions; only for methods that end in MMFF94s.
        max_atoms: Largest molecule, in atoms with hydrogens.
        jobs: Worker processes; 0 for all cores.
        device: ``auto``, ``cpu`` or ``cuda``.
    """

    n: int = 20
    per_reference: int = 0
    method: str = "model"
    start: str = "auto"
    candidates_per_conformer: int = 2
    ewin: float | None = None
    rms: float | None = None
    checkpoint: str = "default"
    sampler: str = "euler"
    rounds: int = 3
    steps: int | None = None
    select: str = "lowest"
    seed: int = 0
    refine: str = "none"
    max_refine_steps: int = 500
    stereo: str = "sample"
    fragments: str = "largest"
    constraints: Constraints | None = None
    max_atoms: int = 999
    jobs: int = 1
    device: str = "auto"

    def __post_init__(self) -> None:
        for name, known in (
            ("method", METHODS),
            ("start", ("auto", *START_METHODS)),
            ("select", SELECTIONS),
            ("refine", tuple(REFINERS)),
            ("stereo", STEREO_POLICIES),
            ("fragments", FRAGMENT_POLICIES),
        ):
            if getattr(self, name) not in known:
                raise InputError(f"{getattr(self, name)!r} is not one of {', '.join(known)}", setting=name)
        for name in ("candidates_per_conformer", "rounds", "steps", "max_atoms"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise InputError("must be at least 1", setting=name)
        if min(self.n, self.per_reference) < 0:
            raise InputError("must be at least 1", setting="n")
        for name in ("ewin", "rms"):
            if getattr(self, name) is not None and getattr(self, name) <= 0:
                raise InputError("must be positive", setting=name)
        if self.constraints is not None and (self.method != "etkdg+mmff94s" or self.refine != "none"):
            raise InputError(
                "a fixed core or torsion needs the method etkdg+mmff94s without refinement, because others move what "
                "is fixed",
                setting="constraints",
            )

    def count(self, n_references: int | None, n_rotatable_bonds: int) -> int:
        """Number of conformers of one molecule."""
        if self.per_reference and n_references:
            return self.per_reference * n_references
        if self.n:
            return self.n
        return next((count for most, count in _AUTOMATIC_COUNTS if n_rotatable_bonds <= most), _MAX_AUTOMATIC_COUNT)

    def summary(self) -> str:
        """What a reader of the output should know of these settings, in one line."""
        used: dict[str, object] = {
            "candidates_per_conformer": self.candidates_per_conformer,
            "ewin": self.ewin or "default",
            "select": self.select,
            "refine": self.refine,
        }
        if self.method == "model":
            used |= {"start": self.start, "sampler": self.sampler, "rounds": self.rounds}
            used |= {} if self.steps is None else {"steps": self.steps}
        return " ".join(f"{key}={value}" for key, value in used.items())

    def digest(self) -> str:
        """Names everything that the output depends on, except the inputs and the weights."""
        values = {k: v for k, v in asdict(self).items() if k not in ("jobs", "device")}
        return json_digest([__version__, values])


@dataclass(frozen=True, kw_only=True)
class GenerateSummary:
    """Counts of one run; ``requested = done + failed``.

    Attributes:
        requested: Inputs.
        done: Inputs with conformers.
        failed: Inputs without conformers.
        conformers: Conformers written.
        redrawn: Samples drawn again because of wrong stereo, broken bonds or non-finite coordinates.
        fallback: Conformers whose every sample was wrong and whose verified start was written instead.
        short: Inputs with fewer conformers than asked for.
    """

    requested: int = 0
    done: int = 0
    failed: int = 0
    conformers: int = 0
    redrawn: int = 0
    fallback: int = 0
    short: int = 0
