"""Our ensembles against genuine GEOM-Drugs ones (CREST, GFN2-xTB): how many of their conformers do we find?

    python benchmarks/reference_recall.py EXCERPT.sdf.gz -o runs/recall [--select 'geomdrugs_t*'] [--limit 20] [--lean]

EXCERPT is a multi-conformer SDF with SMILES and E_REL_KCAL (GFN2-xTB, relative to the molecule's lowest). Recall is
the share of its conformers within 3 or 6 kcal/mol that one of ours matches within 0.25 Å of heavy-atom RMSD. Of a
conformer and its mirror image, which an achiral molecule has at equal energy, CREST and our search keep either one at
random: both count as found (``same_hand`` does without). The curve of recall against CPU time has a point after the
optimisation of the first minima and one after each round of crossing. Finished molecules in OUT are not repeated.
"""

import argparse
import fnmatch
import json
import resource
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
from rdkit.Chem import FindMolChiralCenters

from conformergen.chem import conformer_positions, heavy_atoms, molecule_from_smiles, symmetry_group, to_mol
from conformergen.datasets.readers.interface import RawEnsemble
from conformergen.datasets.readers.sdf import read
from conformergen.errors import MoleculeError
from conformergen.evaluation.summary import bootstrap_mean
from conformergen.geometry.branch_bound import group_rmsd_matrix
from conformergen.refinement.engines import XtbProgram
from conformergen.workflows.isomers import choose_isomer
from conformergen.workflows.reference import ReferenceResult, ReferenceSettings, reference_ensemble

NEAR, WINDOWS = 0.25, (3.0, 6.0)
#: Name, CPU seconds so far, minima of the window (Å).
Stage = tuple[str, float, np.ndarray]


def search(raw: RawEnsemble, settings: ReferenceSettings) -> tuple[ReferenceResult, list[Stage]]:
    """Our ensemble, and the minima known at each stage with the CPU time so far."""
    stages: list[Stage] = []
    began = time.process_time(), _child_seconds()

    def watch(stage: str, positions: np.ndarray, energies: np.ndarray) -> None:
        spent = time.process_time() - began[0] + _child_seconds() - began[1]
        stages.append((stage, spent, positions[energies <= energies.min() + max(WINDOWS)]))

    molecule = choose_isomer(raw.smiles or "", raw.name, seed=0)
    return reference_ensemble(molecule, settings, seed=0, watch=watch), stages


def _child_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def compare(raw: RawEnsemble, result: ReferenceResult, stages: list[Stage]) -> dict[str, object]:
    """Recall, energies and cost of one molecule."""
    ours = result.conformers
    molecule = ours.molecule
    mapped = conformer_positions(molecule, raw.conformers, check_stereo=True)
    kept = [i for i, m in enumerate(mapped) if not isinstance(m, str)]
    theirs = np.array([mapped[i] for i in kept], dtype=np.float64)
    energies = np.array([float(raw.conformers[i].GetProp("E_REL_KCAL")) for i in kept])
    energies -= energies.min()
    mol = to_mol(molecule)
    heavy = heavy_atoms(mol)
    group = symmetry_group(mol)
    achiral = not FindMolChiralCenters(mol, includeUnassigned=True, useLegacyImplementation=False)

    def distances(made: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        strict = group_rmsd_matrix(theirs[:, heavy], made[:, heavy], group)
        if not achiral:
            return strict, strict
        return strict, np.minimum(strict, group_rmsd_matrix(theirs[:, heavy], -made[:, heavy], group))

    curve = []
    for stage, seconds, positions in stages:
        found = distances(positions)[1].min(1) < NEAR
        curve.append([stage, round(seconds, 1), *(float(found[energies <= w].mean()) for w in WINDOWS)])
    strict, rmsd = distances(ours.positions.astype(np.float64))
    found = rmsd.min(1) < NEAR
    engine = XtbProgram(molecule)
    lowest = engine.optimise(theirs[int(energies.argmin())])
    own = engine.energy(ours.positions[0].astype(np.float64))
    assert lowest is not None
    assert own is not None
    return {
        "name": raw.name,
        "smiles": molecule.smiles,
        "heavy": len(heavy),
        "theirs": len(kept),
        "left_out": len(mapped) - len(kept),
        "ours": len(ours.positions),
        **{f"recall_{w:g}": float(found[energies <= w].mean()) for w in WINDOWS},
        **{f"same_hand_{w:g}": float((strict.min(1) < NEAR)[energies <= w].mean()) for w in WINDOWS},
        "lowest_difference": own - lowest[1],
        "ours_only": int((rmsd.min(0) >= NEAR).sum()),
        "cpu_seconds": round(sum(result.cpu_seconds.values()), 1),
        "curve": curve,
        "truncated": result.truncated,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("excerpt", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--select", default="geomdrugs_t*")
    parser.add_argument("--max-heavy", type=int, default=30)
    parser.add_argument("--limit", type=int, default=20)
    parser.add_argument("--lean", action="store_true")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    settings = ReferenceSettings.lean(engine="xtb") if options.lean else ReferenceSettings(engine="xtb")
    rows: list[dict[str, object]] = []
    for raw in read(options.excerpt):
        if len(rows) == options.limit:
            break
        if not fnmatch.fnmatchcase(raw.name, options.select) or not raw.smiles:
            continue
        if len(heavy_atoms(to_mol(molecule_from_smiles(raw.smiles)))) > options.max_heavy:
            continue
        finished = options.out / f"{raw.name}.json"
        if not finished.exists():
            try:
                row = compare(raw, *search(raw, settings))
            except MoleculeError as error:
                row = {"name": raw.name, "error": str(error), "recall_3": 0.0, "recall_6": 0.0}
            finished.write_text(json.dumps(row) + "\n")
        rows.append(json.loads(finished.read_text()))
        print(json.dumps(rows[-1]), flush=True)
    (options.out / "recall.json").write_text(json.dumps({"settings": asdict(settings), "rows": rows}, indent=1) + "\n")
    lines = []
    for key in ("recall_3", "recall_6"):
        values = np.array([float(r[key]) for r in rows])  # type: ignore[arg-type]
        low, high = bootstrap_mean(values)
        lines.append(f"{key}: mean {values.mean():.3f} [{low:.3f}, {high:.3f}], median {np.median(values):.3f}")
    differences = np.array([float(r["lowest_difference"]) for r in rows if "lowest_difference" in r])  # type: ignore[arg-type]
    lines.append(f"lowest energy at most 0.1 kcal/mol above theirs: {(differences <= 0.1).mean():.3f} of molecules")
    lines.append(f"CPU seconds: mean {np.mean([float(r.get('cpu_seconds', 0)) for r in rows]):.0f}")  # type: ignore[arg-type]
    lines.append("curve, CPU s and recall within 3 and 6 kcal/mol (a search that has ended keeps its last point):")
    curves = [r["curve"] for r in rows if "curve" in r]
    for stage in range(max(map(len, curves))):  # type: ignore[arg-type]
        points = np.array([c[min(stage, len(c) - 1)][1:] for c in curves])  # type: ignore[index, arg-type]
        lines.append("  {:6.0f}  {:.3f}  {:.3f}".format(*points.mean(0)))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
