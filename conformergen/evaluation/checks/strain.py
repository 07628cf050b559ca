"""GFN2-xTB strain of samples: what an optimisation changes (GEOM-Drugs Revisited, arXiv 2505.00169)."""

import numpy as np
from jaxtyping import Float, Int

from conformergen.errors import MoleculeError
from conformergen.evaluation.checks.interface import Check, Checked, CheckSettings
from conformergen.evaluation.scoring import Score
from conformergen.records import MolGraph
from conformergen.refinement.engines import ENGINES, choose_engine


def needs_engine(settings: CheckSettings) -> None:
    """Refuse early where neither xtb nor tblite is installed."""
    choose_engine(settings.engine)


def internal_coordinates(graph: MolGraph) -> tuple[Int[np.ndarray, "angle 3"], Int[np.ndarray, "torsion 4"]]:
    """All bond angles i-j-k and all torsions i-j-k-l of a bond graph."""
    around = graph.neighbours()
    angles = [(i, j, k) for j, near in enumerate(around) for n, i in enumerate(near) for k in near[n + 1 :]]
    torsions = [
        (i, j, k, m)
        for j, k in graph.bonds.tolist()
        for i in around[j]
        for m in around[k]
        if i != k and m != j and i != m
    ]
    return np.array(angles, dtype=np.int64).reshape(-1, 3), np.array(torsions, dtype=np.int64).reshape(-1, 4)


def _angle(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Angle between vectors, degrees."""
    norms = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    return np.degrees(np.arccos(np.clip((a * b).sum(-1) / np.maximum(norms, 1e-12), -1.0, 1.0)))


def _torsion(x: Float[np.ndarray, "atom 3"], quartets: Int[np.ndarray, "torsion 4"]) -> np.ndarray:
    a, b, c, d = (x[quartets[:, i]] for i in range(4))
    first, second = np.cross(a - b, c - b), np.cross(b - c, d - c)
    axis = (c - b) / np.maximum(np.linalg.norm(c - b, axis=-1, keepdims=True), 1e-12)
    sine = (np.cross(first, second) * axis).sum(-1)
    return np.degrees(np.arctan2(sine, (first * second).sum(-1)))


def changes(
    graph: MolGraph, before: Float[np.ndarray, "atom 3"], after: Float[np.ndarray, "atom 3"]
) -> tuple[float, float, float]:
    """Mean absolute change of bond lengths (Å), bond angles and torsions (degrees)."""
    angles, torsions = internal_coordinates(graph)
    lengths = [np.linalg.norm(x[graph.bonds[:, 0]] - x[graph.bonds[:, 1]], axis=1) for x in (before, after)]
    bent = [_angle(x[angles[:, 0]] - x[angles[:, 1]], x[angles[:, 2]] - x[angles[:, 1]]) for x in (before, after)]
    rotations = _torsion(after, torsions) - _torsion(before, torsions)
    rotations = np.abs((rotations + 180.0) % 360.0 - 180.0)
    means = [np.abs(lengths[1] - lengths[0]), np.abs(bent[1] - bent[0]), rotations]
    bond, angle, torsion = (float(m.mean()) if m.size else 0.0 for m in means)
    return bond, angle, torsion


def run(score: Score, settings: CheckSettings) -> Checked:
    """Optimise some samples with GFN2-xTB.

    Raises:
        MoleculeError: ``crash`` when every calculation failed.
    """
    aligned = score.aligned
    engine = ENGINES[choose_engine(settings.engine)](aligned.molecule)
    rows = []
    for start in aligned.samples[settings.spread(len(aligned.samples))].astype(np.float64):
        energy, relaxed = engine.energy(start), engine.optimise(start)
        if energy is not None and relaxed is not None:
            rows.append((energy - relaxed[1], *changes(aligned.molecule.graph, start, relaxed[0])))
    if not rows:
        raise MoleculeError("crash", "no GFN2-xTB calculation came to an end")
    columns = np.array(rows).T
    return Checked(samples=dict(zip(UNITS, columns, strict=True)))


#: Unit of each column.
UNITS = {"strain": "kcal/mol", "bond_change": "Å", "angle_change": "°", "torsion_change": "°"}
#: Entry of ``CHECKS``.
CHECK = Check(run=run, units=UNITS, needs=needs_engine)
