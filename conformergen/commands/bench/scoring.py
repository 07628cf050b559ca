"""Scoring of whole test sets beside the usual loop."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
from rdkit import Chem
from rdkit.Chem import rdMolAlign

from conformergen.commands.bench.interface import Comparison, Peer
from conformergen.commands.bench.molecules import DRUGS
from conformergen.commands.bench.rmsd import conformers
from conformergen.errors import InputError
from conformergen.evaluation.metrics import METRICS
from conformergen.evaluation.scoring import ScoringTask, score_molecule

#: References of a molecule in the published GEOM-Drugs test list: the middles of twenty equal parts, at most 500.
_K: Final = (2, 4, 6, 10, 13, 19, 24, 29, 36, 44, 53, 66, 82, 94, 115, 140, 170, 223, 326, 500)
#: Molecules of the test set.
_MOLECULES: Final = 200
#: Different conformers of a molecule; the others are these with noise.
_EMBEDDED: Final = 6
#: Standard deviation of the noise, Å.
_NOISE: Final = 0.3


def _plan(source: Path | None) -> list[tuple[str, int]]:
    """SMILES and K: of a list with the column n_conformers, or our drugs with K as in the published test list."""
    if source is None:
        return [(DRUGS[i % len(DRUGS)], _K[i % len(_K)]) for i in range(_MOLECULES)]
    with source.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if not rows or not {"smiles", "n_conformers"} <= set(rows[0]):
        raise InputError(f"{source}: columns smiles and n_conformers are wanted")
    # One in twenty, by rising K, so that the sample has the list's spread of sizes.
    rows.sort(key=lambda row: int(row["n_conformers"]))
    return [(row.get("corrected_smiles") or row["smiles"], int(row["n_conformers"])) for row in rows[10::20]]


def _task(name: str, smiles: str, k: int, rng: np.random.Generator) -> ScoringTask:
    """K references and 2K samples: the scorer's time does not depend on how good they are."""
    mol = conformers(smiles, _EMBEDDED)
    ensembles = []
    for count in (k, 2 * k):
        ensemble = []
        for _ in range(count):
            one = Chem.Mol(mol, confId=int(rng.integers(_EMBEDDED)))
            conformer = one.GetConformer()
            conformer.SetPositions(conformer.GetPositions() + rng.normal(0.0, _NOISE, (one.GetNumAtoms(), 3)))
            ensemble.append(one)
        ensembles.append(ensemble)
    return ScoringTask(name=name, smiles=smiles, references=ensembles[0], samples=ensembles[1])


def evaluate(source: Path | None = None) -> Iterator[Comparison]:
    """200 molecules; or every 20th molecule of the list ``source``, by rising K."""
    rng = np.random.default_rng(0)
    tasks = []
    for i, (smiles, k) in enumerate(_plan(source)):
        try:
            tasks.append(_task(str(i), smiles, k, rng))
        except InputError:  # RDKit cannot embed a few of the published lists
            continue
    pairs = sum(len(t.references) * len(t.samples) for t in tasks)
    sampled = [
        (t.references[i % len(t.references)], t.samples[i % len(t.samples)])
        for t in tasks
        for i in range(max(1, round(400 * len(t.references) * len(t.samples) / pairs)))
    ]

    def loop() -> list[float]:
        return [rdMolAlign.GetBestRMS(Chem.RemoveHs(s), Chem.RemoveHs(r)) for r, s in sampled]

    def ours() -> list[Any]:
        return [score_molecule(task) for task in tasks]

    def facts() -> dict[str, Any]:
        worst = 0.0
        small = [t for t in tasks if len(t.references) <= 6]
        for task in small:
            mine = score_molecule(task).rmsd
            theirs = np.array(
                [
                    [rdMolAlign.GetBestRMS(Chem.RemoveHs(s), Chem.RemoveHs(r)) for s in task.samples]
                    for r in task.references
                ]
            )
            for metric in METRICS.values():
                worst = max(worst, abs(metric.function(mine, 0.75) - metric.function(theirs, 0.75)))
        return {
            "molecules": len(tasks),
            "references": sum(len(t.references) for t in tasks),
            "pairs": pairs,
            "largest_deviation_of_cov_or_mat": worst,
            "molecules_compared": len(small),
        }

    yield Comparison(
        name=f"{len(tasks)} molecules, {pairs} pairs",
        unit="pair",
        ours=ours,
        units=pairs,
        peers={"RemoveHs and GetBestRMS": Peer(call=loop, units=len(sampled), at_least=100.0)},
        facts=facts,
        rounds=3,
    )
