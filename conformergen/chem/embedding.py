"""Embedding by ETKDGv3 (Wang, Witek, Landrum, Riniker 2020, doi 10.1021/acs.jcim.0c00025)."""

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from jaxtyping import Float32
from rdkit import Chem
from rdkit.Chem import rdDistGeom

from conformergen.chem.forcefield import minimise_mmff
from conformergen.chem.molecule import to_mol
from conformergen.errors import InputError, MoleculeError
from conformergen.geometry.stereo import stereo_ok
from conformergen.records import Fallback, Molecule

#: Attempts in this order, until there are enough conformers.
_ATTEMPTS: Final = (
    Fallback.REGULAR,
    Fallback.RANDOM_COORDINATES,
    Fallback.RANDOM_COORDINATES,
    Fallback.DISTANCE_GEOMETRY,
)
#: Wall time of embedding one by one, in units of the time limit of one call.
_ONE_BY_ONE_TIMEOUTS: Final = 3
#: Atoms above which conformers are embedded one by one from the start.
_LARGE_MOLECULE: Final = 150
#: Embedding one by one stops when so many conformers in a row have failed at the beginning.
_MAX_FAILURES: Final = 3


@dataclass(frozen=True, kw_only=True)
class EmbedSettings:
    """How molecules are embedded.

    Attributes:
        mmff94s: Minimise each conformer with MMFF94s where it has parameters for the molecule.
        max_steps: Largest number of force-field iterations.
        timeout: Seconds of wall time for one call of RDKit's embedding.
    """

    mmff94s: bool = True
    max_steps: int = 500
    timeout: int = 60

    def __post_init__(self) -> None:
        if self.max_steps < 1 or self.timeout < 1:
            raise InputError("embed: max_steps and timeout must be at least 1")


def random_seed(molecule: Molecule, seed: int, purpose: str) -> int:
    """31-bit seed from (seed, molecule, purpose), independent of the order of the molecules and of workers."""
    digest = hashlib.sha256(molecule.key + f"|{seed}|{purpose}".encode()).digest()
    return int.from_bytes(digest[:4], "little") & 0x7FFFFFFF


def embed(
    molecule: Molecule,
    n: int,
    *,
    seed: int,
    settings: EmbedSettings | None = None,
    on_fallback: Callable[[Fallback], None] = lambda fallback: None,
) -> Float32[np.ndarray, "conf atom 3"]:
    """Up to ``n`` conformers (Å) with the requested stereo, in RDKit's order.

    Where ETKDGv3 fails, random initial coordinates are tried twice, and then distance geometry without ETKDG's
    knowledge terms.

    Args:
        molecule: Species.
        n: Number of conformers.
        seed: Seed of all random numbers.
        settings: How they are embedded.
        on_fallback: Called with each way of embedding that gave conformers.

    Raises:
        MoleculeError: ``embed`` when no attempt gives a conformer, ``stereo`` when none has the requested stereo.
    """
    settings = settings or EmbedSettings()
    mol = to_mol(molecule)
    kept: list[np.ndarray] = []
    n_embedded = 0
    for attempt, fallback in enumerate(_ATTEMPTS):
        missing = n - len(kept)
        if missing <= 0 or (fallback is Fallback.DISTANCE_GEOMETRY and kept):
            break
        positions = _embed_once(mol, molecule, missing, seed, attempt, settings, fallback=fallback)
        n_embedded += len(positions)
        good = positions[stereo_ok(positions, molecule.graph)]
        if len(good):
            on_fallback(fallback)
        kept.extend(good)
    if not kept:
        reason = "stereo" if n_embedded else "embed"
        detail = "no embedded geometry has the requested stereo" if n_embedded else "ETKDGv3 found no geometry"
        raise MoleculeError(reason, f"{detail} for {molecule.smiles[:60]}")
    return np.stack(kept[:n]).astype(np.float32)


def _embed_once(
    mol: Chem.Mol, molecule: Molecule, n: int, seed: int, attempt: int, settings: EmbedSettings, *, fallback: Fallback
) -> Float32[np.ndarray, "conf atom 3"]:
    parameters: Any = rdDistGeom.ETKDGv3()  # the stubs type its numbers as parameter objects
    parameters.randomSeed = random_seed(molecule, seed, f"embed{attempt}")
    parameters.numThreads = 1
    parameters.timeout = settings.timeout
    parameters.useRandomCoords = fallback is not Fallback.REGULAR
    if fallback is Fallback.DISTANCE_GEOMETRY:
        parameters.useBasicKnowledge = parameters.useExpTorsionAnglePrefs = False
    parameters.clearConfs = True
    try:
        if fallback is Fallback.REGULAR and mol.GetNumAtoms() <= _LARGE_MOLECULE:
            rdDistGeom.EmbedMultipleConfs(mol, n, parameters)
        else:
            _embed_one_by_one(mol, n, parameters, time_limit=_ONE_BY_ONE_TIMEOUTS * settings.timeout)
    except (ValueError, RuntimeError):  # RDKit: bad conformer id, missing parameters
        return np.zeros((0, mol.GetNumAtoms(), 3), dtype=np.float32)
    if settings.mmff94s:
        minimise_mmff(mol, max_steps=settings.max_steps)
    positions = [conformer.GetPositions() for conformer in mol.GetConformers()]
    return np.array(positions, dtype=np.float32).reshape(-1, mol.GetNumAtoms(), 3)


def _embed_one_by_one(mol: Chem.Mol, n: int, parameters: Any, *, time_limit: float) -> None:
    """Embed conformers in separate calls, so that a timeout costs only one of them."""
    mol.RemoveAllConformers()
    parameters.clearConfs = False
    first, began = parameters.randomSeed, time.monotonic()
    for i in range(n):
        parameters.randomSeed = (first + i) & 0x7FFFFFFF
        start = time.monotonic()
        hopeless = rdDistGeom.EmbedMolecule(mol, parameters) < 0 and time.monotonic() - start > parameters.timeout
        hopeless |= i + 1 == _MAX_FAILURES and mol.GetNumConformers() == 0
        if hopeless or time.monotonic() - began > time_limit:
            break
