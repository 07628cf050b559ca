"""Who computes GFN2-xTB and GFN-FF: the ``xtb`` program, or the ``tblite`` library where that is missing.

``tblite`` has no GFN-FF: MMFF94s stands in for it, and there is no metadynamics.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, final

import numpy as np
from jaxtyping import Float64
from rdkit import Chem

from conformergen.chem import minimise_mmff, mol_with_conformers, to_mol
from conformergen.errors import InputError
from conformergen.records import ConformerSet, Molecule, Refined
from conformergen.refinement import xtb
from conformergen.units import AU_TO_DEBYE, BOHR_TO_ANGSTROM, EV_TO_KCAL, HARTREE_TO_KCAL

Positions = Float64[np.ndarray, "atom 3"]
Frames = Float64[np.ndarray, "frame atom 3"]
#: Largest force at which an ASE optimisation ends, eV/Å; xtb's own levels in the norm of the gradient.
_FORCE: Final = {"crude": 0.15, "normal": 0.03}
#: Largest number of steps of an ASE optimisation.
_MAX_STEPS: Final = 500


@dataclass(frozen=True, kw_only=True)
class Properties:
    """Of one conformer: energy and orbital gap in kcal/mol, dipole in D."""

    energy: float
    gap: float
    dipole: float


class Engine(ABC):
    """Energies and optimisations of one species; energies in kcal/mol, None where a calculation failed."""

    #: Name of the force field that ``forcefield`` uses.
    forcefield_name: str

    def __init__(self, molecule: Molecule) -> None:
        self.molecule = molecule
        self.mol = to_mol(molecule)
        self.charge = Chem.GetFormalCharge(self.mol)
        self.numbers = molecule.graph.atomic_numbers

    @abstractmethod
    def forcefield(self, positions: Positions) -> tuple[Positions, float] | None:
        """Minimum of the force field."""

    @abstractmethod
    def snapshots(self, positions: Positions, run: xtb.Metadynamics) -> Frames:
        """Frames of a metadynamics run on the force field's surface; none where there is no such thing."""

    @abstractmethod
    def energy(self, positions: Positions) -> float | None:
        """GFN2-xTB single point."""

    @abstractmethod
    def optimise(self, positions: Positions, opt_level: str = "normal") -> tuple[Positions, float] | None:
        """GFN2-xTB minimum; ``opt_level`` is ``crude`` or ``normal``."""

    @abstractmethod
    def properties(self, positions: Positions) -> Properties | None:
        """GFN2-xTB single point with orbital gap and dipole."""


@final
class XtbProgram(Engine):
    """One process of the ``xtb`` program for each calculation."""

    forcefield_name = "gfn-ff"

    def _minimum(self, positions: Positions, method: str, opt_level: str) -> tuple[Positions, float] | None:
        found = xtb.optimise(self.numbers, positions, charge=self.charge, method=method, opt_level=opt_level)
        return None if found is None else (found[0], found[1] * HARTREE_TO_KCAL)

    def forcefield(self, positions: Positions) -> tuple[Positions, float] | None:
        return self._minimum(positions, "gfn-ff", "normal")

    def snapshots(self, positions: Positions, run: xtb.Metadynamics) -> Frames:
        return xtb.metadynamics(self.numbers, positions, charge=self.charge, run=run)

    def energy(self, positions: Positions) -> float | None:
        found = xtb.single_point(self.numbers, positions, charge=self.charge)
        return None if found is None else found * HARTREE_TO_KCAL

    def optimise(self, positions: Positions, opt_level: str = "normal") -> tuple[Positions, float] | None:
        return self._minimum(positions, "gfn2-xtb", opt_level)

    def properties(self, positions: Positions) -> Properties | None:
        found = xtb.properties(self.numbers, positions, charge=self.charge)
        if found is None:
            return None
        energy, gap, dipole = found
        return Properties(energy=energy * HARTREE_TO_KCAL, gap=gap * EV_TO_KCAL, dipole=dipole)


@final
class TbliteLibrary(Engine):
    """``tblite`` in this process, with ASE's optimiser."""

    forcefield_name = "mmff94s"

    def _atoms(self, positions: Positions) -> Any:
        from ase import Atoms
        from tblite.ase import TBLite

        atoms = Atoms(numbers=self.numbers, positions=positions)
        # Charge and spin go in by initial values of the atoms.
        atoms.set_initial_charges([self.charge] + [0.0] * (len(self.numbers) - 1))
        atoms.calc = TBLite(method="GFN2-xTB", verbosity=0)
        return atoms

    def forcefield(self, positions: Positions) -> tuple[Positions, float] | None:
        mol = mol_with_conformers(self.molecule, positions[None])
        _, energies = minimise_mmff(mol, max_steps=2000)
        if not np.isfinite(energies[0]):
            return None
        return mol.GetConformer().GetPositions(), float(energies[0])

    def snapshots(self, positions: Positions, run: xtb.Metadynamics) -> Frames:
        del run
        return np.zeros((0, *positions.shape))

    def energy(self, positions: Positions) -> float | None:
        try:
            return float(self._atoms(positions).get_potential_energy()) * EV_TO_KCAL
        except RuntimeError:  # no convergence of the charges
            return None

    def optimise(self, positions: Positions, opt_level: str = "normal") -> tuple[Positions, float] | None:
        from ase.optimize import LBFGS

        atoms = self._atoms(positions)
        try:
            LBFGS(atoms, logfile=None).run(fmax=_FORCE[opt_level], steps=_MAX_STEPS)
            return atoms.get_positions(), float(atoms.get_potential_energy()) * EV_TO_KCAL
        except RuntimeError:
            return None

    def properties(self, positions: Positions) -> Properties | None:
        from tblite.interface import Calculator

        calculator = Calculator("GFN2-xTB", self.numbers, positions / BOHR_TO_ANGSTROM, charge=self.charge)
        calculator.set("verbosity", 0)
        try:
            result = calculator.singlepoint()
        except RuntimeError:
            return None
        orbitals, occupied = result.get("orbital-energies"), result.get("orbital-occupations") > 1.0
        return Properties(
            energy=float(result.get("energy")) * HARTREE_TO_KCAL,
            gap=float(orbitals[~occupied].min() - orbitals[occupied].max()) * HARTREE_TO_KCAL,
            dipole=float(np.linalg.norm(result.get("dipole"))) * AU_TO_DEBYE,
        )


#: Engines by name.
ENGINES: Final[Mapping[str, type[Engine]]] = {"xtb": XtbProgram, "tblite": TbliteLibrary}


def choose_engine(name: str = "auto") -> str:
    """Name of an engine that is installed; ``auto`` prefers the program.

    Raises:
        InputError: For an unknown engine or one that is missing, with the command that installs it.
    """
    import importlib.util

    if name not in ("auto", *ENGINES):
        raise InputError(f"engine {name!r} is not one of auto, {', '.join(ENGINES)}")
    if name in ("auto", "xtb") and xtb.available():
        return "xtb"
    if name in ("auto", "tblite") and all(importlib.util.find_spec(m) is not None for m in ("tblite", "ase")):
        return "tblite"
    raise InputError(
        "this needs the xtb program (apt-get install xtb, or conda install -c conda-forge xtb) "
        "or tblite (pip install 'conformergen[xtb]')"
    )


def optimise_all(
    conformers: ConformerSet, optimise: Callable[[Positions], tuple[Positions, float] | None], method: str
) -> Refined:
    """Optimise each conformer; one that fails keeps its positions, and then no energies are given."""
    positions = conformers.positions.astype(np.float64)
    energies = np.full(len(conformers), np.nan)
    for index, start in enumerate(positions):
        result = optimise(start)
        if result is not None:
            positions[index], energies[index] = result
    complete = bool(np.isfinite(energies).all())
    refined = replace(
        conformers,
        positions=positions.astype(np.float32),
        energies=energies if complete else None,
        energy_method=method if complete else "",
    )
    return Refined(conformers=refined, converged=np.isfinite(energies))
