"""Ring conformations: COV and MAT of the ring atoms alone, at 0.1 Å.

The idea is the recall of ring puckers in PuckerFlow; here it is the RMSD of the atoms of each ring, over the
automorphisms that keep the ring.
"""

from typing import Final

import numpy as np
from rdkit import Chem

from conformergen.chem import heavy_atoms, symmetry_group, to_mol
from conformergen.evaluation.checks.interface import Check, Checked, CheckSettings
from conformergen.evaluation.metrics import METRICS
from conformergen.evaluation.scoring import Score
from conformergen.geometry.rmsd import rmsd_matrix

#: Threshold of COV, Å.
_THRESHOLD: Final = 0.1
#: Atoms of the smallest ring that counts as flexible.
_MIN_RING: Final = 4
#: Saturated atoms of a flexible ring.
_MIN_SATURATED: Final = 2
#: Largest symmetry group that is listed; the atoms of a ring keep their order beyond it.
_LISTED: Final = 256


def flexible_rings(mol: Chem.Mol) -> list[tuple[int, ...]]:
    """Rings of at least four atoms with at least two saturated ones."""
    sp3 = Chem.HybridizationType.SP3
    return [
        ring
        for ring in mol.GetRingInfo().AtomRings()
        if len(ring) >= _MIN_RING
        and sum(mol.GetAtomWithIdx(i).GetHybridization() == sp3 for i in ring) >= _MIN_SATURATED
    ]


def run(score: Score, settings: CheckSettings) -> Checked:
    """Means over the flexible rings of a molecule; no values for a molecule without such a ring."""
    del settings
    aligned = score.aligned
    mol = to_mol(aligned.molecule)
    rings = flexible_rings(mol)
    if not rings:
        return Checked(molecule={"n_rings": 0})
    heavy = heavy_atoms(mol)
    where = {int(atom): i for i, atom in enumerate(heavy)}
    group = symmetry_group(mol)
    listed = group.permutations() if group.size <= _LISTED else np.arange(len(heavy))[None]
    values = []
    for ring in rings:
        own = np.array([where[i] for i in ring])
        kept = np.unique([p[own] for p in listed if set(p[own]) == set(own)], axis=0)
        places = {int(atom): i for i, atom in enumerate(own)}
        maps = np.array([[places[int(a)] for a in row] for row in kept])
        atoms = heavy[own]
        rmsd, _ = rmsd_matrix(aligned.references[:, atoms], aligned.samples[:, atoms], maps)
        values.append([metric.function(rmsd, _THRESHOLD) * metric.scale for metric in METRICS.values()])
    means = np.mean(values, axis=0)
    return Checked(
        molecule={"n_rings": len(rings), **{f"ring_{k}": float(v) for k, v in zip(METRICS, means, strict=True)}}
    )


#: Entry of ``CHECKS``.
CHECK = Check(run=run, units={"n_rings": ""} | {f"ring_{name}": metric.unit for name, metric in METRICS.items()})
