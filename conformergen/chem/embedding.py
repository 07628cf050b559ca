"""Seed conformers by ETKDGv3 (Wang, Witek, Landrum, Riniker 2020, doi 10.1021/acs.jcim.0c00025)."""

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32
from rdkit import Chem
from rdkit.Chem import rdDistGeom

from conformergen.chem.forcefield import minimise_mmff
from conformergen.chem.molecule import to_mol
from conformergen.errors import InputError, MoleculeError
from conformergen.geometry.stereo import stereo_ok
from conformergen.records import Molecule


@dataclass(frozen=True, kw_only=True)
class EmbedSettings:
    """How seed conformers are made.

    Attributes:
        mmff94s: Minimise each seed with MMFF94s where it has parameters for the molecule.
        max_steps: Force-field iterations at most.
        timeout: Seconds of wall time per call of RDKit's embedding.
    """

    mmff94s: bool = True
    max_steps: int = 500
    timeout: int = 60

    def __post_init__(self) -> None:
        if self.max_steps < 1 or self.timeout < 1:
            raise InputError("embed: max_steps and timeout must be at least 1")


def random_seed(molecule: Molecule, seed: int, purpose: str) -> int:
    """31-bit seed from (seed, molecule, purpose): independent of order and workers."""
    digest = hashlib.sha256(molecule.key + f"|{seed}|{purpose}".encode()).digest()
    return int.from_bytes(digest[:4], "little") & 0x7FFFFFFF


#: Rungs of the ladder of embeddings, indices into ``records.RUNGS``.
_REGULAR, _RANDOM, _PLAIN = 0, 3, 4
#: Limit of embedding one by one, in units of ``timeout``; atoms above which that is done from the start.
_PATIENCE, _LARGE = 3, 150
#: Failures in a row after which no more are tried one by one.
_TRIES = 3


def embed(
    molecule: Molecule,
    n: int,
    *,
    seed: int,
    settings: EmbedSettings | None = None,
    note: Callable[[int], None] = lambda rung: None,
) -> Float32[np.ndarray, "conf atom 3"]:
    """Up to ``n`` conformers with the requested stereo, in RDKit's order; Å.

    What ETKDGv3 does not give is embedded from random coordinates, twice, and then without its knowledge terms.

    Args:
        molecule: Species.
        n: Conformers.
        seed: Of everything random.
        settings: How.
        note: Called with each rung of ``records.RUNGS`` that gave conformers.

    Raises:
        MoleculeError: ``embed`` when no attempt gives a conformer, ``stereo`` when none has the
            requested stereo.
    """
    settings = settings or EmbedSettings()
    mol = to_mol(molecule)
    kept: list[np.ndarray] = []
    n_embedded = 0
    for attempt, rung in enumerate((_REGULAR, _RANDOM, _RANDOM, _PLAIN)):
        missing = n - len(kept)
        if missing <= 0 or (rung == _PLAIN and kept):
            break
        positions = _embed_once(mol, molecule, missing, seed, attempt, settings, rung=rung)
        n_embedded += len(positions)
        good = positions[stereo_ok(positions, molecule.graph)]
        if len(good):
            note(rung)
        kept.extend(good)
    if not kept:
        reason = "stereo" if n_embedded else "embed"
        detail = "no embedded geometry has the requested stereo" if n_embedded else "ETKDGv3 found no geometry"
        raise MoleculeError(reason, f"{detail} for {molecule.smiles[:60]}")
    return np.stack(kept[:n]).astype(np.float32)


def _embed_once(
    mol: Chem.Mol, molecule: Molecule, n: int, seed: int, attempt: int, settings: EmbedSettings, *, rung: int
) -> Float32[np.ndarray, "conf atom 3"]:
    parameters: Any = rdDistGeom.ETKDGv3()  # the stubs type its numbers as parameter objects
    parameters.randomSeed = random_seed(molecule, seed, f"embed{attempt}")
    parameters.numThreads = 1
    parameters.timeout = settings.timeout
    parameters.useRandomCoords = rung != _REGULAR
    if rung == _PLAIN:
        parameters.useBasicKnowledge = parameters.useExpTorsionAnglePrefs = False
    parameters.clearConfs = True
    try:
        if rung == _REGULAR and mol.GetNumAtoms() <= _LARGE:
            rdDistGeom.EmbedMultipleConfs(mol, n, parameters)
        else:
            _one_by_one(mol, n, parameters, patience=_PATIENCE * settings.timeout)
    except (ValueError, RuntimeError):  # RDKit: bad conformer id, missing parameters
        return np.zeros((0, mol.GetNumAtoms(), 3), dtype=np.float32)
    if settings.mmff94s:
        minimise_mmff(mol, max_steps=settings.max_steps)
    positions = [conformer.GetPositions() for conformer in mol.GetConformers()]
    return np.array(positions, dtype=np.float32).reshape(-1, mol.GetNumAtoms(), 3)


def _one_by_one(mol: Chem.Mol, n: int, parameters: Any, *, patience: float) -> None:
    """Embed so that a timeout costs one conformer: a call for many gives up those it has."""
    mol.RemoveAllConformers()
    parameters.clearConfs = False
    first, began = parameters.randomSeed, time.monotonic()
    for i in range(n):
        parameters.randomSeed = (first + i) & 0x7FFFFFFF
        start = time.monotonic()
        hopeless = rdDistGeom.EmbedMolecule(mol, parameters) < 0 and time.monotonic() - start > parameters.timeout
        hopeless |= i + 1 == _TRIES and mol.GetNumConformers() == 0
        if hopeless or time.monotonic() - began > patience:
            break
