"""How well do GFN-FF minima stand for GFN2-xTB ones? Genuine GEOM-Drugs ensembles are the reference.

    python benchmarks/forcefield_match.py EXCERPT.sdf.gz -o runs/forcefield [--select 'geomdrugs_t*'] [--limit 20]

EXCERPT is a multi-conformer SDF with SMILES and E_REL_KCAL (GFN2-xTB). Two searches at level GFN-FF, the lean one of
the pre-training set (50 lowest within 10 kcal/mol) and the full one of ``generate --method gfnff`` (14 kcal/mol): the
share of GEOM's conformers that one of the minima matches within 0.5 and 0.75 Å of heavy-atom RMSD, a mirror image
of an achiral molecule counting as found. Energies: GEOM's conformers, at most 50 evenly over their order, optimised
by GFN-FF; Spearman's rho of the energies of the minima reached with GEOM's. Finished molecules are not repeated.
"""

from typing import Any

import numpy as np
from genuine import Genuine, arguments, rows
from scipy.stats import spearmanr

from conformergen.chem.isomers import choose_isomer
from conformergen.evaluation.summary import bootstrap_mean
from conformergen.io.formats.interface import RawEnsemble
from conformergen.reference.search import reference_ensemble
from conformergen.reference.settings import ReferenceSettings
from conformergen.refinement.engines import XtbProgram

THRESHOLDS = (0.5, 0.75)
ORDERED = 50
SEARCHES = {
    "lean": ReferenceSettings.lean(theory="gfn-ff", engine="xtb", ewin=10.0),
    "full": ReferenceSettings(theory="gfn-ff", engine="xtb", ewin=14.0, max_final=1000),
}


def match(raw: RawEnsemble) -> dict[str, Any]:
    """Recall, correlation and cost of one molecule."""
    molecule = choose_isomer(raw.smiles or "", raw.name, seed=0)
    theirs = Genuine(raw, molecule)
    n = len(theirs.positions)
    row: dict[str, Any] = {"name": raw.name, "smiles": molecule.smiles, "heavy": len(theirs.heavy), "theirs": n}
    for name, settings in SEARCHES.items():
        result = reference_ensemble(molecule, settings, seed=0)
        nearest = theirs.distances(result.conformers.positions)[1].min(1)
        row[name] = {
            "ours": len(result.conformers),
            "cpu_seconds": sum(result.cpu_seconds.values()),
            **{f"recall_{t:g}": float((nearest < t).mean()) for t in THRESHOLDS},
        }
    engine = XtbProgram(molecule)
    picked = np.unique(np.linspace(0, n - 1, min(ORDERED, n)).round().astype(int))
    minima = [(i, engine.forcefield(theirs.positions[i])) for i in picked]
    reached = [(theirs.energies[i], found[1]) for i, found in minima if found is not None]
    row["rho"] = float(spearmanr(*zip(*reached, strict=True)).statistic) if len(reached) > 2 else None
    return row


def main() -> None:
    found = rows(arguments(__doc__).parse_args(), match)
    good = [r for r in found if "error" not in r]
    print(f"{len(good)} of {len(found)} molecules")
    for name in SEARCHES:
        for key in (f"recall_{t:g}" for t in THRESHOLDS):
            values = np.array([r[name][key] for r in good])
            low, high = bootstrap_mean(values)
            print(f"{name} {key}: {values.mean():.3f} [{low:.3f}, {high:.3f}]")
        means = [np.mean([r[name][key] for r in good]) for key in ("ours", "cpu_seconds")]
        print("{}: {:.1f} minima, {:.1f} CPU s".format(name, *means))
    rho = np.array([r["rho"] for r in good if r["rho"] is not None])
    low, high = bootstrap_mean(rho)
    print(f"rho: mean {rho.mean():.2f} [{low:.2f}, {high:.2f}], median {np.median(rho):.2f}, {len(rho)} molecules")


if __name__ == "__main__":
    main()
