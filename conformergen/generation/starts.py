"""From one input to its start structures, or to the conformers of a method without a network.

This is the work of one worker process, which does not import torch.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from conformergen.chem import (
    EmbedSettings,
    embed,
    heavy_atoms,
    largest_fragment,
    n_rotatable_bonds,
    symmetry_group,
    to_mol,
)
from conformergen.chem.isomers import isomers
from conformergen.errors import MoleculeError
from conformergen.generation.selection import BY_FORCE_FIELD, n_unique, select_with_mirrors
from conformergen.generation.settings import GenerateSettings
from conformergen.geometry.duplicates import DuplicateRule, farthest_first
from conformergen.io.inputs import InputRecord
from conformergen.records import ConformerSet, Fallback, Minima, Molecule
from conformergen.reference.search import reference_ensemble
from conformergen.reference.settings import ReferenceSettings
from conformergen.runtime.files import fault_point
from conformergen.torsion import DRAWN_RESTRAINT, TorsionModelFile, TorsionSearchSettings, torsion_minima
from conformergen.torsion.constraints import constrained_conformers

#: Energy window of ``gfnff`` above the lowest minimum, kcal/mol.
_SEARCH_WINDOW: Final = 14.0
#: Largest number of minima that ``gfnff`` keeps.
_MAX_MINIMA: Final = 1000
#: Smallest number of conformers for which candidates are made where a ranker chooses: even a few conformers shall be
#: the low ones of some, not the first that are found.
_MIN_RANKED: Final = 4
#: Search for the candidates of a ranker and a network. Torsions are restrained near those of GFN2-xTB minima, and the
#: window is wide, because MMFF94s misjudges conformers by several kcal/mol. Minima within 0.2 Å lead to one GFN2-xTB
#: minimum. The ranker reads the energies, so the minimisation converges.
CANDIDATES: Final = TorsionSearchSettings(
    candidates_per_conformer=1,
    window=40.0,
    restraint=DRAWN_RESTRAINT,
    max_steps=800,
    same_minimum=DuplicateRule(energy_rmsd=3.0, rmsd=0.2),
)


def n_candidates(molecule: Molecule, n: int, *, candidates_per_conformer: int) -> int:
    """Number of minima to make where a ranker chooses ``n`` conformers."""
    return candidates_per_conformer * max(_MIN_RANKED, n_unique(molecule, n))


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Starts:
    """Start structures of one input.

    Attributes:
        record: The input.
        sets: Start structures of each isomer; of methods without a network, their conformers.
        n: Number of conformers asked for.
    """

    record: InputRecord
    sets: list[ConformerSet]
    n: int


def make_starts(
    record: InputRecord,
    *,
    settings: GenerateSettings,
    start_method: str,
    ranked: bool,
    torsion_model: TorsionModelFile | None,
) -> Starts:
    """Parse one input, resolve its stereo, and make its start structures.

    Args:
        record: The input.
        settings: How conformers are generated.
        start_method: Entry of ``START_METHODS``.
        ranked: Make candidates for a ranker.
        torsion_model: Draws the torsions of ``torsion+mmff94s``.

    Raises:
        MoleculeError: With the reason why there is no start.
    """

    def make(molecule: Molecule, n: int) -> ConformerSet:
        if settings.constraints is not None:
            minima = constrained_conformers(molecule, n, seed=settings.seed, constraints=settings.constraints)
            return _conformers(molecule, minima, Fallback.REGULAR)
        worst = Fallback.REGULAR

        def on_fallback(fallback: Fallback) -> None:
            nonlocal worst
            worst = max(worst, fallback)

        if start_method == "torsion+mmff94s":
            minima = _torsion_starts(molecule, n, settings, ranked=ranked, model=torsion_model, on_fallback=on_fallback)
        else:
            embedding = EmbedSettings(mmff94s=start_method == "etkdg+mmff94s")
            positions = embed(molecule, n, seed=settings.seed, settings=embedding, on_fallback=on_fallback)
            minima = Minima(positions=positions.astype(np.float64), energies=np.full(len(positions), np.nan))
        # Minima of a search have no embedding of their own, so the worst fallback of the molecule is that of all.
        return _conformers(molecule, minima, worst)

    return _prepare(record, settings, make)


def _torsion_starts(
    molecule: Molecule,
    n: int,
    settings: GenerateSettings,
    *,
    ranked: bool,
    model: TorsionModelFile | None,
    on_fallback: Callable[[Fallback], None],
) -> Minima:
    """Candidates for a ranker; without one the ``n`` conformers that the method ``torsion+mmff94s`` returns."""
    per_conformer = settings.candidates_per_conformer
    if ranked:
        wanted = n_candidates(molecule, n, candidates_per_conformer=per_conformer)
        return torsion_minima(
            molecule, wanted, seed=settings.seed, settings=CANDIDATES, model=model, on_fallback=on_fallback
        )
    window = settings.ewin or BY_FORCE_FIELD.window
    search = TorsionSearchSettings(candidates_per_conformer=per_conformer, window=window)
    wanted = n_unique(molecule, n)
    minima = torsion_minima(molecule, wanted, seed=settings.seed, settings=search, model=model, on_fallback=on_fallback)
    selected = replace(BY_FORCE_FIELD, window=window)
    selection = select_with_mirrors(molecule, minima.energies, n, seed=settings.seed, settings=selected)
    return Minima(positions=selection.apply(minima.positions), energies=minima.energies[selection.rows])


def _conformers(molecule: Molecule, minima: Minima, fallback: Fallback) -> ConformerSet:
    known = bool(np.isfinite(minima.energies).all())
    return ConformerSet(
        molecule=molecule,
        positions=minima.positions.astype(np.float32),
        energies=minima.energies if known else None,
        energy_method="mmff94s" if known else "",
        fallback=np.full(len(minima), fallback, dtype=np.uint8),
    )


def search_minima(record: InputRecord, *, settings: GenerateSettings) -> Starts:
    """GFN-FF minima of one input within 14 kcal/mol of the lowest; fewer than n where there are no more.

    Raises:
        MoleculeError: With the reason why there is none.
    """

    def make(molecule: Molecule, n: int) -> ConformerSet:
        search = ReferenceSettings(
            theory="gfn-ff", engine="xtb", ewin=settings.ewin or _SEARCH_WINDOW, max_final=_MAX_MINIMA
        )
        found = reference_ensemble(molecule, search, seed=settings.seed).conformers
        picked = np.arange(min(n, len(found)))
        if settings.select == "diverse":
            mol = to_mol(molecule)
            picked = farthest_first(found.positions[:, heavy_atoms(mol)], symmetry_group(mol), n)
        assert found.energies is not None
        return ConformerSet(
            molecule=molecule,
            positions=found.positions[picked],
            energies=found.energies[picked],
            energy_method="gfn-ff",
            fallback=np.full(len(picked), Fallback.REGULAR, dtype=np.uint8),
        )

    return _prepare(record, settings, make)


def _prepare(record: InputRecord, settings: GenerateSettings, make: Callable[[Molecule, int], ConformerSet]) -> Starts:
    fault_point(f"molecule.{record.name}")
    if not record.smiles:
        raise MoleculeError("parse", "unreadable input record")
    smiles = largest_fragment(record.smiles) if settings.fragments == "largest" else record.smiles
    species = [
        replace(molecule, source_smiles=record.smiles)
        for molecule in isomers(
            smiles, record.name, policy=settings.stereo, seed=settings.seed, max_atoms=settings.max_atoms
        )
    ]
    n = settings.count(record.n_references, n_rotatable_bonds(species[0].smiles))
    return Starts(record=record, sets=[make(molecule, n) for molecule in species], n=n)
