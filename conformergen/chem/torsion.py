"""Random search of torsions: ETKDGv3 gives rings and local geometry, uniform torsions and MMFF94s give basins.

The random search of Saunders 1987 (doi 10.1021/ja00244a001) in torsion space (Chang, Guida, Still 1989,
doi 10.1021/ja00194a035). ETKDGv3 draws torsions as crystals show them; a molecule in the gas phase folds into forms
that it hardly ever draws, and that a uniform draw followed by minimisation reaches at the same cost
(docs/experiments.md).
"""

from dataclasses import dataclass
from math import ceil
from typing import Final

import numpy as np
from jaxtyping import Float64, Int64
from rdkit import Chem
from rdkit.Chem import rdForceFieldHelpers, rdMolTransforms

from conformergen.chem.embedding import EmbedSettings, embed, random_seed
from conformergen.chem.forcefield import minimise_mmff
from conformergen.chem.molecule import mol_with_conformers, to_mol
from conformergen.errors import InputError
from conformergen.geometry.stereo import stereo_ok
from conformergen.records import Molecule

#: Single bonds outside rings between atoms that have a further neighbour each, no triple bond beside them.
_ROTOR: Final = Chem.MolFromSmarts("[!$(*#*)&!D1]-&!@[!$(*#*)&!D1]")
#: Ring conformations come from the seeds: at least so many, whatever their share.
_MIN_SEEDS: Final = 8


@dataclass(frozen=True, kw_only=True)
class TorsionSettings:
    """Depth of the search.

    Attributes:
        pool: Starts drawn for each conformer asked for; half of them are minimised to the end.
        seeds_share: One ETKDGv3 embedding for so many conformers.
        coarse_steps: Force-field iterations of every start.
        fine_steps: Further iterations of those kept.
        temperature: kcal/mol; starts are kept with probability falling as exp(-E/temperature). Well above room
            temperature, because the force field's order of conformers is off by several kcal/mol.
    """

    pool: int = 4
    seeds_share: int = 4
    coarse_steps: int = 40
    fine_steps: int = 160
    temperature: float = 4.0

    def __post_init__(self) -> None:
        if min(self.pool, self.seeds_share, self.coarse_steps, self.fine_steps) < 1 or self.temperature <= 0:
            raise InputError("torsion search: pool, shares and steps must be at least 1, temperature positive")


def rotors(mol: Chem.Mol) -> Int64[np.ndarray, "rotor 4"]:
    """Quartets of atoms, one for each bond that is turned; explicit hydrogens count, methyl groups do not."""
    quartets = []
    for a, b in mol.GetSubstructMatches(_ROTOR):
        ends = [
            [n.GetIdx() for n in mol.GetAtomWithIdx(i).GetNeighbors() if n.GetIdx() != j] for i, j in ((a, b), (b, a))
        ]
        if not any(_is_methyl(mol.GetAtomWithIdx(i)) for i in (a, b)):
            quartets.append((ends[0][0], a, b, ends[1][0]))
    return np.array(quartets, dtype=np.int64).reshape(-1, 4)


def _is_methyl(atom: Chem.Atom) -> bool:
    return atom.GetAtomicNum() == 6 and sum(n.GetAtomicNum() == 1 for n in atom.GetNeighbors()) == 3


def torsion_search(
    molecule: Molecule, n: int, *, seed: int, settings: TorsionSettings | None = None
) -> tuple[Float64[np.ndarray, "conf atom 3"], Float64[np.ndarray, " conf"]]:
    """Up to ``n`` MMFF94s minima (Å, kcal/mol) with the requested stereo, in random order.

    A molecule without stereocentres has every conformer in two mirror images of one energy: half of its conformers
    are made, and then reflected. Where MMFF94s has no parameters, or nothing turns, the minima of the seeds are given,
    with energies NaN without parameters.

    Raises:
        MoleculeError: ``embed`` or ``stereo`` as ``chem.embed``.
    """
    settings = settings or TorsionSettings()
    mol = to_mol(molecule)
    turned = rotors(mol)
    if len(turned) == 0 or not rdForceFieldHelpers.MMFFHasAllMoleculeParams(mol):
        return _minimised(molecule, embed(molecule, n, seed=seed, settings=EmbedSettings(mmff94s=False)))
    reflects = len(molecule.graph.centres) == 0
    wanted = ceil(n / 2) if reflects else n
    n_seeds = min(wanted, max(_MIN_SEEDS, ceil(wanted / settings.seeds_share)))
    seeds = embed(molecule, n_seeds, seed=seed, settings=EmbedSettings(mmff94s=False))
    rng = np.random.default_rng(random_seed(molecule, seed, "torsions"))
    starts = mol_with_conformers(molecule, seeds[np.arange(settings.pool * wanted) % len(seeds)])
    for conformer in starts.GetConformers():
        for (i, j, k, m), angle in zip(turned.tolist(), rng.uniform(-180.0, 180.0, len(turned)).tolist(), strict=True):
            rdMolTransforms.SetDihedralDeg(conformer, i, j, k, m, angle)
    _, energies = minimise_mmff(starts, max_steps=settings.coarse_steps)
    coarse = _positions(starts)
    coarse, energies = _right_stereo(molecule, coarse, energies)
    kept = _draw(energies, max(wanted, settings.pool * wanted // 2), settings.temperature, rng)
    positions, energies = _minimised(molecule, coarse[kept], settings.fine_steps)
    kept = _draw(energies, wanted, settings.temperature, rng)
    positions, energies = positions[kept], energies[kept]
    if len(positions) < wanted:  # clashes that inverted a centre: the seeds' own minima instead
        more, their_energies = _minimised(molecule, seeds[: wanted - len(positions)])
        positions, energies = np.concatenate([positions, more]), np.concatenate([energies, their_energies])
    if reflects:
        positions, energies = np.concatenate([positions, -positions])[:n], np.concatenate([energies, energies])[:n]
    return positions, energies


def _minimised(
    molecule: Molecule, positions: np.ndarray, max_steps: int = 500
) -> tuple[Float64[np.ndarray, "conf atom 3"], Float64[np.ndarray, " conf"]]:
    mol = mol_with_conformers(molecule, positions)
    _, energies = minimise_mmff(mol, max_steps=max_steps)
    return _right_stereo(molecule, _positions(mol), energies)


def _positions(mol: Chem.Mol) -> Float64[np.ndarray, "conf atom 3"]:
    return np.array([c.GetPositions() for c in mol.GetConformers()]).reshape(-1, mol.GetNumAtoms(), 3)


def _right_stereo(molecule: Molecule, positions: np.ndarray, energies: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    good = stereo_ok(positions, molecule.graph)
    return positions[good], energies[good]


def _draw(
    energies: Float64[np.ndarray, " conf"], n: int, temperature: float, rng: np.random.Generator
) -> Int64[np.ndarray, " kept"]:
    """Indices of ``n`` different conformers by Boltzmann weight (Gumbel top-k, Kool et al. 2019, arXiv 1903.06059)."""
    return np.argsort(energies / temperature - rng.gumbel(size=len(energies)), kind="stable")[:n]
