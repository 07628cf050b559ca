"""CPU time of a training step with `recm` over one with `none`, interleaved, on the bundled set.

python benchmarks/train_step.py [preset]
"""

import statistics
import sys
import time
from pathlib import Path

import torch

from conformergen.config import load_config
from conformergen.datasets.loader import TrainingSet
from conformergen.io.shards import read_folder
from conformergen.nn import make_backbone
from conformergen.training.trainer import Trainer

STEPS, WARM_UP = 25, 5


def main() -> None:
    torch.set_num_threads(1)
    sets = list(read_folder(Path(__file__).parent.parent / "data" / "reference-mini"))
    preset = sys.argv[1] if len(sys.argv) > 1 else "small"
    runs = {}
    for mode in ("none", "recm"):
        config = load_config(preset, None, [f"network.relaxation.mode={mode}"])
        torch.manual_seed(0)
        data = TrainingSet(sets, pair_budget=config.training.pair_budget, confs_per_epoch=10)
        network = make_backbone(config.network)
        trainer = Trainer(network, config.diffusion, config.training, relaxation=mode, device="cpu")
        runs[mode] = (trainer, data, data.stream(0, 0, 0), [])
    for _ in range(STEPS):
        for trainer, data, batches, seconds in runs.values():
            began = time.process_time()
            trainer.train_step(data, batches)
            seconds.append(time.process_time() - began)
    none, recm = (statistics.median(runs[mode][3][WARM_UP:]) for mode in ("none", "recm"))
    print(f"{preset}: none {none:.3f} s, recm {recm:.3f} s, ratio {recm / none:.3f}")


if __name__ == "__main__":
    main()
