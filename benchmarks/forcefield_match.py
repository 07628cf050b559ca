"""How well do GFN-FF minima stand for GFN2-xTB ones? Genuine GEOM-Drugs ensembles are the reference.

    python benchmarks/forcefield_match.py EXCERPT.sdf.gz -o runs/forcefield [--select 'geomdrugs_t*'] [--limit 20]

EXCERPT is a multi-conformer SDF with SMILES and E_REL_KCAL (GFN2-xTB). Two searches at level GFN-FF, the lean one of
the pre-training set (50 lowest within 10 kcal/mol) and the full one of ``generate --method gfnff`` (14 kcal/mol): the
share of GEOM's conformers that one of the minima matches within 0.5 and 0.75 Å of heavy-atom RMSD, a mirror image
of an achiral molecule counting as found. Energies: GEOM's conformers, at most 50 evenly over their order, optimised
by GFN-FF; Spearman's rho of the energies of the minima reached with GEOM's. Finished molecules are not repeated.
"""

import argparse
import fnmatch
import json
from pathlib import Path
from typing import Any

import numpy as np
from rdkit.Chem import FindMolChiralCenters
from scipy.stats import spearmanr

from conformergen.chem import conformer_positions, heavy_atoms, molecule_from_smiles, symmetry_group, to_mol
from conformergen.datasets.readers.interface import RawEnsemble
from conformergen.datasets.readers.sdf import read
from conformergen.errors import MoleculeError
from conformergen.evaluation.summary import bootstrap_mean
from conformergen.geometry.branch_bound import group_rmsd_matrix
from conformergen.refinement.engines import XtbProgram
from conformergen.workflows.isomers import choose_isomer
from conformergen.workflows.reference import ReferenceSettings, reference_ensemble

THRESHOLDS = (0.5, 0.75)
ORDERED = 50
SEARCHES = {
    "lean": ReferenceSettings.lean(level="gfn-ff", engine="xtb", ewin=10.0),
    "full": ReferenceSettings(level="gfn-ff", engine="xtb", ewin=14.0, max_final=1000),
}


def match(raw: RawEnsemble) -> dict[str, Any]:
    """Recall, correlation and cost of one molecule."""
    molecule = choose_isomer(raw.smiles or "", raw.name, seed=0)
    mapped = conformer_positions(molecule, raw.conformers, check_stereo=True)
    kept = [i for i, m in enumerate(mapped) if not isinstance(m, str)]
    theirs = np.array([mapped[i] for i in kept], dtype=np.float64)
    energies = np.array([float(raw.conformers[i].GetProp("E_REL_KCAL")) for i in kept])
    mol = to_mol(molecule)
    heavy, group = heavy_atoms(mol), symmetry_group(mol)
    achiral = not FindMolChiralCenters(mol, includeUnassigned=True, useLegacyImplementation=False)
    row: dict[str, Any] = {"name": raw.name, "smiles": molecule.smiles, "heavy": len(heavy), "theirs": len(kept)}
    for name, settings in SEARCHES.items():
        result = reference_ensemble(molecule, settings, seed=0)
        ours = result.conformers.positions[:, heavy].astype(np.float64)
        rmsd = group_rmsd_matrix(theirs[:, heavy], ours, group)
        if achiral:
            rmsd = np.minimum(rmsd, group_rmsd_matrix(theirs[:, heavy], -ours, group))
        row[name] = {
            "ours": len(ours),
            "cpu_seconds": sum(result.cpu_seconds.values()),
            **{f"recall_{t:g}": float((rmsd.min(1) < t).mean()) for t in THRESHOLDS},
        }
    engine = XtbProgram(molecule)
    picked = np.unique(np.linspace(0, len(kept) - 1, min(ORDERED, len(kept))).round().astype(int))
    reached = [(energies[i], found[1]) for i in picked if (found := engine.forcefield(theirs[i])) is not None]
    row["rho"] = float(spearmanr(*zip(*reached, strict=True)).statistic) if len(reached) > 2 else None
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("excerpt", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--select", default="geomdrugs_t*")
    parser.add_argument("--max-heavy", type=int, default=30)
    parser.add_argument("--limit", type=int, default=20)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
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
                row = match(raw)
            except MoleculeError as error:
                row = {"name": raw.name, "error": str(error)}
            finished.write_text(json.dumps(row) + "\n")
        rows.append(json.loads(finished.read_text()))
        print(json.dumps(rows[-1]), flush=True)
    good = [r for r in rows if "error" not in r]
    print(f"{len(good)} of {len(rows)} molecules")
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
