"""Results of geom_rot.py with several seeds: each molecule's mean over the seeds, then the mean over molecules.

    python benchmarks/over_seeds.py OUT0 OUT1 ... --methods model,model:2 [--base etkdg+mmff94s]

With small ensembles a score hangs on which starts were drawn; the mean over seeds is what a method gives, and its
intervals are those of the molecules. Seeds are listed one by one too.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from conformergen.evaluation.metrics import METRICS
from conformergen.evaluation.summary import paired


def scores(folder: Path, method: str) -> dict[str, list[float]]:
    """COV-R, MAT-R, COV-P and MAT-P of each molecule; without samples, NaN."""
    molecules = json.loads((folder / f"{method}.json").read_text())["molecules"]
    return {m["name"]: [np.nan if m[k] is None else m[k] for k in METRICS] for m in molecules}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--methods", default="model")
    parser.add_argument("--base", default="etkdg+mmff94s")
    options = parser.parse_args()

    def every(method: str) -> np.ndarray:
        """(seed, molecule, metric)"""
        found = [scores(folder, method) for folder in options.folders]
        return np.array([[one[name] for name in sorted(found[0])] for one in found])

    base = every(options.base)
    for method in (*options.methods.split(","), options.base):
        own = every(method)
        mean = own.mean(axis=(0, 1))
        print(method, dict(zip(METRICS, mean.round(3).tolist(), strict=True)), (mean / base.mean(axis=(0, 1))).round(2))
        for row in own.mean(axis=1).round(3).tolist():
            print("   ", row)
        for i, metric in enumerate(METRICS):
            d = paired(own[..., i].mean(axis=0).tolist(), base[..., i].mean(axis=0).tolist())
            print(f"    {metric} {d.mean:+.3f} [{d.low:+.3f}, {d.high:+.3f}]")


if __name__ == "__main__":
    main()
