"""Ring conformations: COV and MAT of the ring atoms alone, at 0.1 Å.

As ring-pucker recall in PuckerFlow; here by the RMSD of each ring's own atoms, over the automorphisms that keep it.
"""

import numpy as np
from rdkit import Chem

from conformergen.chem import heavy_atoms, symmetry_group, to_mol
from conformergen.evaluation import METRICS, ScoringTask, in_one_order
from conformergen.geometry.rmsd import rmsd_matrix
from conformergen.workflows.checks.interface import Check, Checked, CheckSettings

_THRESHOLD = 0.1
_MIN_RING = 4
#: Groups larger than this are not listed; the ring's atoms then keep their order.
_LISTED = 256


def flexible_rings(mol: Chem.Mol) -> list[tuple[int, ...]]:
    """Rings of at least four atoms with at least two saturated ones."""
    sp3 = Chem.HybridizationType.SP3
    return [
        ring
        for ring in mol.GetRingInfo().AtomRings()
        if len(ring) >= _MIN_RING and sum(mol.GetAtomWithIdx(i).GetHybridization() == sp3 for i in ring) >= 2
    ]


def run(task: ScoringTask, settings: CheckSettings) -> Checked:
    """Means over the molecule's flexible rings; nothing for a molecule without one."""
    del settings
    sides = in_one_order(task)
    mol = to_mol(sides.molecule)
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
        rmsd, _ = rmsd_matrix(sides.references[:, atoms], sides.samples[:, atoms], maps)
        values.append([metric.function(rmsd, _THRESHOLD) * metric.scale for metric in METRICS.values()])
    means = np.mean(values, axis=0)
    return Checked(
        molecule={"n_rings": len(rings), **{f"ring_{k}": float(v) for k, v in zip(METRICS, means, strict=True)}}
    )


CHECK = Check(run=run, units={"n_rings": ""} | {f"ring_{name}": metric.unit for name, metric in METRICS.items()})
