"""Conformers with a fixed core or fixed torsions: ETKDGv3 with given coordinates, then constrained MMFF94s."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from rdkit import Chem
from rdkit.Chem import rdDistGeom, rdForceFieldHelpers, rdMolAlign, rdMolTransforms
from rdkit.Geometry import Point3D

from conformergen.chem import to_mol
from conformergen.chem.embedding import random_seed
from conformergen.errors import InputError, MoleculeError
from conformergen.geometry.graph import bonds_kept
from conformergen.geometry.stereo import stereo_ok
from conformergen.records import Minima, Molecule
from conformergen.torsion.search import lowest_unique

#: Embeddings made for each conformer asked for.
_CANDIDATES_PER_CONFORMER: Final = 2
#: Force constant of a constrained torsion, kcal/mol/degree².
_FORCE_CONSTANT: Final = 100.0
#: Half-width of the constraint of a torsion, degrees.
_HALF_WIDTH: Final = 0.1
#: Largest deviation of a constrained torsion in the result, degrees.
_TORSION_TOLERANCE: Final = 2.0
#: Largest RMSD of an embedding from the core, in Å, before the coordinates of the core are put in place.
_CORE_TOLERANCE: Final = 1.0
#: Largest number of force-field iterations.
_MAX_STEPS: Final = 1000


@dataclass(frozen=True, kw_only=True)
class Constraints:
    """What must not move.

    Attributes:
        core: Mol block of a template with 3D coordinates, whose heavy atoms keep their places.
        torsions: Pairs of a SMARTS with the atoms mapped :1 to :4 and an angle in degrees; every match is constrained.
    """

    core: str = ""
    torsions: tuple[tuple[str, float], ...] = ()

    def __post_init__(self) -> None:
        self.template()
        self.patterns()

    def template(self) -> Chem.Mol | None:
        """Heavy atoms of the core.

        Raises:
            InputError: When the block is unreadable or flat.
        """
        if not self.core:
            return None
        mol = Chem.MolFromMolBlock(self.core)
        if mol is None or mol.GetNumConformers() == 0 or not mol.GetConformer().Is3D():
            raise InputError("no readable structure with 3D coordinates", setting="constraints.core")
        return mol

    def patterns(self) -> list[tuple[Chem.Mol, tuple[int, ...], float]]:
        """Query, places of the four atoms in it, and angle in degrees.

        Raises:
            InputError: For an unreadable SMARTS or missing atom maps.
        """
        patterns = []
        for smarts, angle in self.torsions:
            query = Chem.MolFromSmarts(smarts)
            maps = {} if query is None else {a.GetAtomMapNum(): a.GetIdx() for a in query.GetAtoms()}
            if query is None or not {1, 2, 3, 4} <= set(maps):
                raise InputError(
                    f"{smarts!r} is not a SMARTS with atoms :1, :2, :3 and :4", setting="constraints.torsions"
                )
            patterns.append((query, tuple(maps[k] for k in (1, 2, 3, 4)), angle))
        return patterns


def constrained_conformers(
    molecule: Molecule, n: int, *, seed: int, constraints: Constraints, timeout: int = 60
) -> Minima:
    """Up to ``n`` unique MMFF94s minima under the constraints, by increasing energy.

    The atoms of the core are exactly where the template has them.

    Raises:
        MoleculeError: ``domain`` where the molecule lacks the core, a torsion or MMFF94s parameters; ``embed`` where
            no conformer meets the constraints; ``stereo`` where those that do have the wrong stereo.
    """
    mol = to_mol(molecule)
    core = _core(mol, constraints)
    torsions = _torsions(mol, constraints)
    properties = rdForceFieldHelpers.MMFFGetMoleculeProperties(mol, mmffVariant="MMFF94s")
    if properties is None:
        raise MoleculeError("domain", "constraints need MMFF94s parameters, and the molecule has none")
    _embed(mol, core, _CANDIDATES_PER_CONFORMER * n, random_seed(molecule, seed, "constrained"), timeout)
    found, energies = [], []
    for conformer in mol.GetConformers():
        if not _place_core(mol, conformer.GetId(), core):
            continue
        for quartet, angle in torsions:
            if not mol.GetBondBetweenAtoms(*quartet[1:3]).IsInRing():
                rdMolTransforms.SetDihedralDeg(conformer, *quartet, angle)  # type: ignore[call-arg]
        energy = _minimise(mol, conformer.GetId(), properties, core, torsions)
        off = [abs((rdMolTransforms.GetDihedralDeg(conformer, *q) - a + 180) % 360 - 180) for q, a in torsions]
        if max(off, default=0.0) <= _TORSION_TOLERANCE:
            found.append(conformer.GetPositions())
            energies.append(energy)
    if not found:
        raise MoleculeError("embed", "no conformer meets the constraints")
    minima = Minima(positions=np.array(found, dtype=np.float64), energies=np.array(energies))
    good = stereo_ok(minima.positions, molecule.graph) & bonds_kept(minima.positions, molecule.graph)
    if not good.any():
        raise MoleculeError("stereo", "conformers that meet the constraints have the wrong stereo")
    return lowest_unique(molecule, minima.select(good), n, mirrored=False)


def _core(mol: Chem.Mol, constraints: Constraints) -> dict[int, np.ndarray]:
    """Place of each core atom, by its index in ``mol``."""
    template = constraints.template()
    if template is None:
        return {}
    match = mol.GetSubstructMatch(template)
    if not match:
        raise MoleculeError("domain", "the molecule does not contain the core")
    places = template.GetConformer().GetPositions()
    return dict(zip(match, places, strict=True))


def _torsions(mol: Chem.Mol, constraints: Constraints) -> list[tuple[tuple[int, ...], float]]:
    """Atoms and angle of each constrained torsion: one for each bond, because the others follow from it."""
    found = []
    for (query, places, angle), (smarts, _) in zip(constraints.patterns(), constraints.torsions, strict=True):
        matches = mol.GetSubstructMatches(query)
        if not matches:
            raise MoleculeError("domain", f"no torsion {smarts}")
        bonds: dict[frozenset[int], tuple[int, ...]] = {}
        for match in matches:
            quartet = tuple(match[i] for i in places)
            bonds.setdefault(frozenset(quartet[1:3]), quartet)
        found += [(quartet, angle) for quartet in bonds.values()]
    return found


def _embed(mol: Chem.Mol, core: dict[int, np.ndarray], n: int, seed: int, timeout: int) -> None:
    for random_coordinates in (False, True):
        parameters: Any = rdDistGeom.ETKDGv3()
        parameters.randomSeed, parameters.numThreads, parameters.timeout = seed, 1, timeout
        parameters.useRandomCoords = random_coordinates
        if core:
            parameters.SetCoordMap({i: Point3D(*map(float, xyz)) for i, xyz in core.items()})
        rdDistGeom.EmbedMultipleConfs(mol, n, parameters)
        if mol.GetNumConformers():
            return


def _place_core(mol: Chem.Mol, conformer: int, core: dict[int, np.ndarray]) -> bool:
    """Superpose the conformer on the core and put the core's atoms exactly in place; whether it fitted before."""
    if not core:
        return True
    target = Chem.Mol(mol, confId=conformer)
    for index, xyz in core.items():
        target.GetConformer().SetAtomPosition(index, Point3D(*map(float, xyz)))
    rmsd = rdMolAlign.AlignMol(mol, target, prbCid=conformer, atomMap=[(i, i) for i in core])
    for index, xyz in core.items():
        mol.GetConformer(conformer).SetAtomPosition(index, Point3D(*map(float, xyz)))
    return rmsd <= _CORE_TOLERANCE


def _minimise(
    mol: Chem.Mol,
    conformer: int,
    properties: Any,
    core: dict[int, np.ndarray],
    torsions: list[tuple[tuple[int, ...], float]],
) -> float:
    """Minimise one conformer in place; its MMFF94s energy without the constraints, kcal/mol."""
    field: Any = rdForceFieldHelpers.MMFFGetMoleculeForceField(mol, properties, confId=conformer)
    field.Initialize()
    for index in core:
        field.AddFixedPoint(index)
    for quartet, angle in torsions:
        lowest, highest = angle - _HALF_WIDTH, angle + _HALF_WIDTH
        field.MMFFAddTorsionConstraint(*quartet, False, lowest, highest, _FORCE_CONSTANT)  # noqa: FBT003
    field.Minimize(maxIts=_MAX_STEPS)
    free: Any = rdForceFieldHelpers.MMFFGetMoleculeForceField(mol, properties, confId=conformer)
    return float(free.CalcEnergy())
