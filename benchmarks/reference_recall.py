"""Our ensembles against genuine GEOM-Drugs ones (CREST, GFN2-xTB): how many of their conformers do we find?

    python benchmarks/reference_recall.py EXCERPT.sdf.gz -o runs/recall [--select 'geomdrugs_t*'] [--limit 20]
        [--lean | --thorough]

EXCERPT is a multi-conformer SDF with SMILES and E_REL_KCAL (GFN2-xTB, relative to the molecule's lowest). Recall is
the share of its conformers within 3 or 6 kcal/mol that one of ours matches within 0.25 Å of heavy-atom RMSD. Of a
conformer and its mirror image, which an achiral molecule has at equal energy, CREST and our search keep either one at
random: both count as found (``same_hand`` does without). The curve of recall against CPU time has a point after the
optimisation of the first minima and one after each round of crossing. Finished molecules in OUT are not repeated.
"""

import json
import resource
import time
from dataclasses import asdict

import numpy as np
from genuine import Genuine, arguments, rows

from conformergen.chem.isomers import choose_isomer
from conformergen.evaluation.summary import bootstrap_mean
from conformergen.io.formats.interface import RawEnsemble
from conformergen.reference.search import ReferenceResult, reference_ensemble
from conformergen.reference.settings import ReferenceSettings
from conformergen.refinement.engines import XtbProgram

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
    theirs = Genuine(raw, molecule)
    energies = theirs.energies - theirs.energies.min()
    curve = []
    for stage, seconds, positions in stages:
        found = theirs.distances(positions)[1].min(1) < NEAR
        curve.append([stage, round(seconds, 1), *(float(found[energies <= w].mean()) for w in WINDOWS)])
    strict, rmsd = theirs.distances(ours.positions)
    found = rmsd.min(1) < NEAR
    engine = XtbProgram(molecule)
    lowest = engine.optimise(theirs.positions[int(energies.argmin())])
    own = engine.energy(ours.positions[0].astype(np.float64))
    assert lowest is not None
    assert own is not None
    return {
        "name": raw.name,
        "smiles": molecule.smiles,
        "heavy": len(theirs.heavy),
        "theirs": len(theirs.positions),
        "left_out": theirs.n_left_out,
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
    parser = arguments(__doc__)
    depth = parser.add_mutually_exclusive_group()
    for name in ("lean", "thorough"):
        depth.add_argument(f"--{name}", dest="make", action="store_const", const=getattr(ReferenceSettings, name))
    options = parser.parse_args()
    settings = (options.make or ReferenceSettings)(engine="xtb")
    found = rows(options, lambda raw: compare(raw, *search(raw, settings)), recall_3=0.0, recall_6=0.0)
    (options.out / "recall.json").write_text(json.dumps({"settings": asdict(settings), "rows": found}, indent=1) + "\n")
    lines = []
    for key in ("recall_3", "recall_6"):
        values = np.array([float(r[key]) for r in found])
        low, high = bootstrap_mean(values)
        lines.append(f"{key}: mean {values.mean():.3f} [{low:.3f}, {high:.3f}], median {np.median(values):.3f}")
    differences = np.array([float(r["lowest_difference"]) for r in found if "lowest_difference" in r])
    lines.append(f"lowest energy at most 0.1 kcal/mol above theirs: {(differences <= 0.1).mean():.3f} of molecules")
    lines.append(f"CPU seconds: mean {np.mean([float(r.get('cpu_seconds', 0)) for r in found]):.0f}")
    lines.append("curve, CPU s and recall within 3 and 6 kcal/mol (a search that has ended keeps its last point):")
    curves = [r["curve"] for r in found if "curve" in r]
    for stage in range(max(map(len, curves))):
        points = np.array([c[min(stage, len(c) - 1)][1:] for c in curves])
        lines.append("  {:6.0f}  {:.3f}  {:.3f}".format(*points.mean(0)))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
