"""Our ensembles against genuine GEOM-Drugs ones (CREST, GFN2-xTB): how many of their conformers do we find?

    python benchmarks/reference_recall.py EXCERPT.sdf.gz -o runs/recall [--select 'geomdrugs_t*'] [--limit 20] [--lean]

EXCERPT is a multi-conformer SDF with SMILES and E_REL_KCAL (GFN2-xTB, relative to the molecule's lowest). Recall is
the share of its conformers within 3 or 6 kcal/mol that one of ours matches within 0.25 Å of heavy-atom RMSD. Of a
conformer and its mirror image, which an achiral molecule has at equal energy, CREST and our search keep either one at
random: both count as found (``same_hand`` does without). Finished molecules in OUT are not repeated.
"""

import argparse
import fnmatch
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
from rdkit.Chem import FindMolChiralCenters

from conformergen.chem import conformer_positions, heavy_atoms, molecule_from_smiles, symmetry_group, to_mol
from conformergen.datasets.inputs import InputRecord
from conformergen.datasets.readers.interface import RawEnsemble
from conformergen.datasets.readers.sdf import read
from conformergen.errors import MoleculeError
from conformergen.evaluation.summary import bootstrap_mean
from conformergen.geometry.branch_bound import group_rmsd_matrix
from conformergen.refinement.engines import XtbProgram
from conformergen.workflows.make_reference import ReferenceTask, read_unit, run_task
from conformergen.workflows.reference import ReferenceSettings

NEAR, WINDOWS = 0.25, (3.0, 6.0)


def compare(raw: RawEnsemble, unit: Path) -> dict[str, object]:
    """Recall, energies and cost of one molecule."""
    ours, books = read_unit(unit)
    molecule = ours.molecule
    mapped = conformer_positions(molecule, raw.conformers, check_stereo=True)
    kept = [i for i, m in enumerate(mapped) if not isinstance(m, str)]
    theirs = np.array([mapped[i] for i in kept], dtype=np.float64)
    energies = np.array([float(raw.conformers[i].GetProp("E_REL_KCAL")) for i in kept])
    energies -= energies.min()
    mol = to_mol(molecule)
    heavy = heavy_atoms(mol)
    group = symmetry_group(mol)
    made = ours.positions[:, heavy].astype(np.float64)
    strict = group_rmsd_matrix(theirs[:, heavy], made, group)
    rmsd = strict
    if not FindMolChiralCenters(mol, includeUnassigned=True, useLegacyImplementation=False):
        rmsd = np.minimum(strict, group_rmsd_matrix(theirs[:, heavy], -made, group))
    found = rmsd.min(1) < NEAR
    engine = XtbProgram(molecule)
    lowest = engine.optimise(theirs[int(energies.argmin())])
    own = engine.energy(ours.positions[0].astype(np.float64))
    assert lowest is not None
    assert own is not None
    assert ours.energies is not None
    within = ours.energies <= max(WINDOWS)
    return {
        "name": raw.name,
        "smiles": molecule.smiles,
        "heavy": len(heavy),
        "theirs": len(kept),
        "left_out": len(mapped) - len(kept),
        "ours": int(within.sum()),
        **{f"recall_{w:g}": float(found[energies <= w].mean()) for w in WINDOWS},
        **{f"same_hand_{w:g}": float((strict.min(1) < NEAR)[energies <= w].mean()) for w in WINDOWS},
        "lowest_difference": own - lowest[1],
        "ours_only": int((rmsd[:, within].min(0) >= NEAR).sum()),
        "cpu_seconds": round(sum(books["cpu_seconds"].values()), 1),
        "truncated": books["truncated"],
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
    (options.out / "units").mkdir(parents=True, exist_ok=True)
    settings = ReferenceSettings.lean(engine="xtb") if options.lean else ReferenceSettings(engine="xtb")
    rows: list[dict[str, object]] = []
    for raw in read(options.excerpt):
        if len(rows) == options.limit:
            break
        if not fnmatch.fnmatchcase(raw.name, options.select) or not raw.smiles:
            continue
        if len(heavy_atoms(to_mol(molecule_from_smiles(raw.smiles)))) > options.max_heavy:
            continue
        record = InputRecord(index=0, smiles=raw.smiles, name=raw.name)
        task = ReferenceTask(record=record, folder=str(options.out / "units"), settings=settings, seed=0)
        try:
            rows.append(compare(raw, run_task(task)))
        except MoleculeError as error:
            rows.append({"name": raw.name, "error": str(error), "recall_3": 0.0, "recall_6": 0.0})
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
    print("\n".join(lines))


if __name__ == "__main__":
    main()
