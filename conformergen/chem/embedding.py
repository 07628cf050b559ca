"""Seed conformers by ETKDGv3 (Wang, Witek, Landrum, Riniker 2020, doi 10.1021/acs.jcim.0c00025)."""

import hashlib
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


def embed(
    molecule: Molecule, n: int, *, seed: int, settings: EmbedSettings | None = None
) -> Float32[np.ndarray, "conf atom 3"]:
    """Up to ``n`` conformers with the requested stereo, in RDKit's order; Å.

    Raises:
        MoleculeError: ``embed`` when no attempt gives a conformer, ``stereo`` when none has the
            requested stereo.
    """
    settings = settings or EmbedSettings()
    mol = to_mol(molecule)
    kept: list[np.ndarray] = []
    n_embedded = 0
    for attempt, random_coordinates in enumerate((False, True, True)):
        missing = n - len(kept)
        if missing <= 0:
            break
        positions = _embed_once(mol, molecule, missing, seed, attempt, settings, random_coordinates=random_coordinates)
        n_embedded += len(positions)
        kept.extend(positions[stereo_ok(positions, molecule.graph)])
    if not kept:
        reason = "stereo" if n_embedded else "embed"
        detail = "no embedded geometry has the requested stereo" if n_embedded else "ETKDGv3 found no geometry"
        raise MoleculeError(reason, f"{detail} for {molecule.smiles[:60]}")
    return np.stack(kept[:n]).astype(np.float32)


def _embed_once(
    mol: Chem.Mol,
    molecule: Molecule,
    n: int,
    seed: int,
    attempt: int,
    settings: EmbedSettings,
    *,
    random_coordinates: bool,
) -> Float32[np.ndarray, "conf atom 3"]:
    parameters: Any = rdDistGeom.ETKDGv3()  # the stubs type its numbers as parameter objects
    parameters.randomSeed = random_seed(molecule, seed, f"embed{attempt}")
    parameters.numThreads = 1
    parameters.timeout = settings.timeout
    parameters.useRandomCoords = random_coordinates
    parameters.clearConfs = True
    try:
        rdDistGeom.EmbedMultipleConfs(mol, n, parameters)
    except (ValueError, RuntimeError):  # RDKit: bad conformer id, missing parameters
        return np.zeros((0, mol.GetNumAtoms(), 3), dtype=np.float32)
    if settings.mmff94s:
        minimise_mmff(mol, max_steps=settings.max_steps)
    positions = [conformer.GetPositions() for conformer in mol.GetConformers()]
    return np.array(positions, dtype=np.float32).reshape(-1, mol.GetNumAtoms(), 3)
