"""How conformers are made, and what came of it."""

from dataclasses import asdict, dataclass
from typing import Final

from conformergen import __version__
from conformergen.chem.constraints import Constraints
from conformergen.errors import InputError
from conformergen.refinement import REFINERS
from conformergen.storage import json_digest
from conformergen.workflows.isomers import STEREO_POLICIES
from conformergen.workflows.rounds import ROUNDS

#: Methods that need no model; the model starts from one of them.
SEEDERS: Final = ("etkdg", "etkdg+mmff94s", "torsion+mmff94s")
#: GFN-FF minima from metadynamics, stages 1 to 6 of ``reference``: tens of CPU seconds for each molecule.
SEARCH: Final = "gfnff"
METHODS: Final = ("model", *SEEDERS, SEARCH)
#: What to do with salts and mixtures: keep the largest organic fragment, or refuse them.
FRAGMENT_POLICIES: Final = ("largest", "error")
#: Which minima of a search are emitted: the lowest, or the lowest and then each the farthest from those before it.
SELECTIONS: Final = ("lowest", "diverse")
#: ``n`` by flexibility: (rotatable bonds at most, conformers); Ebejer, Morris, Deane 2012, doi 10.1021/ci2004658.
_AUTOMATIC: Final = ((7, 50), (12, 200))
_AUTOMATIC_MOST: Final = 300


@dataclass(frozen=True, kw_only=True)
class GenerateSettings:
    """How conformers are made.

    Attributes:
        n: Conformers of each molecule; 0 for a number by flexibility.
        per_reference: When positive, n is this multiple of the input's ``n_conformers`` (2 for the 2K protocol).
        method: Entry of ``METHODS``.
        seeds: Entry of ``SEEDERS`` for the model, or ``auto``: what suits the checkpoint.
        pool: Minima that a torsion search makes for each conformer asked for.
        ewin: Window above the lowest conformer, kcal/mol: of a search, and of refined energies; None for the method's
            own, and none after refinement.
        rms: Conformers closer than this (Å, symmetry-aware, heavy atoms) to a better one are left out; None keeps all.
        checkpoint: Name or path of the model.
        sampler: Entry of ``sampling.SAMPLERS``.
        steps: Evaluations of the network: with a ranker one a round and two in the last, or steps of one integration.
        select: Entry of ``SELECTIONS``, for methods that find more than ``n``.
        seed: Of everything random.
        refine: Entry of ``REFINERS``, applied after sampling; conformers then come in rising energy.
        max_refine_steps: Iterations of the refiner at most.
        stereo: Entry of ``STEREO_POLICIES``.
        fragments: Entry of ``FRAGMENT_POLICIES``.
        constraints: A fixed core and fixed torsions; only for methods that end in MMFF94s.
        max_atoms: Largest molecule, hydrogens included.
        jobs: Worker processes for seeds and refinement; 0 for all cores.
        device: ``auto``, ``cpu`` or ``cuda``.
    """

    n: int = 20
    per_reference: int = 0
    method: str = "model"
    seeds: str = "auto"
    pool: int = 2
    ewin: float | None = None
    rms: float | None = None
    checkpoint: str = "default"
    sampler: str = "euler"
    steps: int = ROUNDS + 1
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
            ("seeds", ("auto", *SEEDERS)),
            ("select", SELECTIONS),
            ("refine", tuple(REFINERS)),
            ("stereo", STEREO_POLICIES),
            ("fragments", FRAGMENT_POLICIES),
        ):
            if getattr(self, name) not in known:
                raise InputError(f"--{name} {getattr(self, name)!r} is not one of {', '.join(known)}")
        if min(self.n, self.per_reference) < 0 or min(self.pool, self.steps, self.max_atoms) < 1:
            raise InputError("-n, --pool, --steps and --max-atoms must be at least 1")
        if self.ewin is not None and self.ewin <= 0:
            raise InputError("--ewin must be positive")
        if self.rms is not None and self.rms <= 0:
            raise InputError("--rms must be positive")
        if self.constraints is not None and (self.method != "etkdg+mmff94s" or self.refine != "none"):
            raise InputError(
                "--core and --torsion need --method etkdg+mmff94s, and no --refine: others move what is fixed"
            )

    def count(self, n_references: int | None, n_rotors: int) -> int:
        """Conformers of one molecule."""
        if self.per_reference and n_references:
            return self.per_reference * n_references
        if self.n:
            return self.n
        return next((count for most, count in _AUTOMATIC if n_rotors <= most), _AUTOMATIC_MOST)

    def summary(self) -> str:
        """What a reader of the output should know of these settings."""
        used = {"pool": self.pool, "ewin": self.ewin or "own", "select": self.select, "refine": self.refine}
        if self.method == "model":
            used |= {"seeds": self.seeds, "sampler": self.sampler, "steps": self.steps}
        return " ".join(f"{key}={value}" for key, value in used.items())

    def digest(self) -> str:
        """Names everything the output depends on, but the input and the weights."""
        values = {k: v for k, v in asdict(self).items() if k not in ("jobs", "device")}
        return json_digest([__version__, values])


@dataclass(frozen=True, kw_only=True)
class GenerateSummary:
    """Counts of one run; ``requested = done + failed``.

    Attributes:
        requested: Inputs.
        done: Inputs with conformers.
        failed: Inputs without.
        conformers: Conformers written.
        redrawn: Conformers drawn again for wrong stereo, bonds or non-finite coordinates.
        fallback: Conformers whose every draw was wrong and that are their verified seed instead.
        short: Inputs with fewer conformers than asked for.
    """

    requested: int = 0
    done: int = 0
    failed: int = 0
    conformers: int = 0
    redrawn: int = 0
    fallback: int = 0
    short: int = 0
