"""Quality of the ranker against the number of training molecules: same held-out molecules, same steps.

    python experiments/ranking_scaling.py data/training/single-points -o runs/ranking-scaling [--sizes 160,320,640]

A tenth of the molecules is held out; of the others the first N are trained on. Writes one ranker a size and prints rank
correlation and error on the held-out molecules, and a power law through the errors. A size that is there is not
trained again. ``benchmarks/geom_rot.py`` then scores conformers that a ranker has picked: put its folder into a copy
of a checkpoint.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from conformergen.checkpoint.folder import write_checkpoint
from conformergen.checkpoint.model import ranker_files
from conformergen.commands.train_ranker import initial_ranker
from conformergen.nn.energy import EnergyNetwork
from conformergen.runtime.devices import limit_threads
from conformergen.training.ranker import RankingSettings, ranking_quality, train_ranker
from conformergen.training.ranking_data import RankingData, load_ranked, split_ranked


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--sizes", default="160,320,640,1280,2560")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--learning-rate", type=float, default=1.5e-3)
    parser.add_argument("--init", default="default")
    options = parser.parse_args()
    limit_threads()
    training, held_out = split_ranked(load_ranked(options.data))
    settings = RankingSettings(steps=options.steps, learning_rate=options.learning_rate)
    points = []
    for size in map(int, options.sizes.split(",")):
        folder = options.out / f"{size:05d}"
        if not folder.exists():
            torch.manual_seed(settings.seed)
            ranker: EnergyNetwork = initial_ranker(options.init)
            ranker = train_ranker(ranker, RankingData(training[:size]), settings)
            quality = ranking_quality(ranker, held_out)
            files, record = ranker_files(ranker, molecules=size, steps=options.steps, rho=quality.ranker,
                                         error=quality.ranker_error)  # fmt: skip
            files["settings.json"] = json.dumps({"schema": 1, "ranker": record}, indent=1).encode()
            write_checkpoint(folder, files)
        record = json.loads((folder / "settings.json").read_text())["ranker"]
        points.append((size, record["rho"], record["error"]))
        print(f"{size} molecules: rho {record['rho']:.3f}, error {record['error']:.3f} kcal/mol", flush=True)
    sizes, rho, error = np.array(points).T
    for name, values in (("error", error), ("1 - rho", 1.0 - rho)):
        slope, intercept = np.polyfit(np.log(sizes), np.log(values), 1)
        print(f"{name} = {np.exp(intercept):.2f} N^{slope:.3f}")


if __name__ == "__main__":
    main()
