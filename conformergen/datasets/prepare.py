"""Clean a raw ensemble: one atom order, one bond graph, one stereoisomer, with counts of what was left out."""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from rdkit import Chem

from conformergen.chem import conformer_positions, molecule_from_mol, parse_smiles, perceive, resolve_open_stereo
from conformergen.errors import MoleculeError
from conformergen.io.formats.interface import RawEnsemble
from conformergen.records import ConformerSet


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """Clean conformers of one molecule and what was dropped, by reason."""

    conformers: ConformerSet
    dropped: dict[str, int] = field(default_factory=dict)


def prepare(raw: RawEnsemble, *, max_confs: int | None, max_atoms: int = 999) -> Prepared:
    """Map atom order, drop reacted and stereo-mismatched conformers, keep the lowest in energy.

    A GEOM ensemble may contain conformers with another bond graph or atom order, so each is compared with the graph of
    the molecule. Stereo that the SMILES leaves open is taken from the first conformer that fits.

    Raises:
        MoleculeError: ``io`` for an unreadable source, ``reacted`` or ``stereo`` when no conformer is left,
            otherwise as ``parse_smiles``.
    """
    if raw.error:
        raise MoleculeError("io", raw.error)
    mol = parse_smiles(raw.smiles) if raw.smiles else _perceive(raw)
    molecule = molecule_from_mol(mol, raw.name, source_smiles=raw.smiles, max_atoms=max_atoms)
    for conformer in raw.conformers:
        try:
            molecule = resolve_open_stereo(mol, conformer, raw.name)
            break
        except MoleculeError:
            continue
    results = conformer_positions(molecule, raw.conformers)
    kept = [i for i, r in enumerate(results) if not isinstance(r, str)]
    dropped = Counter(r for r in results if isinstance(r, str))
    if raw.conformers and not kept:
        raise MoleculeError(dropped.most_common(1)[0][0], f"none of {len(results)} conformers belongs to the SMILES")
    if raw.energies is not None:
        kept.sort(key=lambda i: raw.energies[i])  # type: ignore[index]
    if max_confs is not None and len(kept) > max_confs:
        dropped["over max-confs"] += len(kept) - max_confs
        kept = kept[:max_confs]
    positions = np.array([results[i] for i in kept], dtype=np.float32).reshape(-1, molecule.graph.n_atoms, 3)
    energies = None if raw.energies is None else np.array([raw.energies[i] for i in kept], dtype=np.float64)
    weights = None if raw.weights is None else np.array([raw.weights[i] for i in kept], dtype=np.float64)
    if weights is not None:
        weights = weights / weights.sum() if weights.sum() > 0 else None
    conformers = ConformerSet(
        molecule=molecule,
        positions=positions - positions.mean(axis=1, keepdims=True),
        energies=None if energies is None or len(energies) == 0 else energies - energies.min(),
        weights=weights,
        source_idx=np.array(kept, dtype=np.int32),
        energy_method=raw.energy_method if raw.energies is not None else "",
    )
    return Prepared(conformers=conformers, dropped=dict(dropped))


def _perceive(raw: RawEnsemble) -> Chem.Mol:
    if not raw.conformers:
        raise MoleculeError("parse", "neither a SMILES nor a 3D structure")
    return perceive(raw.conformers[0])
