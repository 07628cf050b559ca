"""Losses of a network that was trained in rounds: a table and a plot.

    python recipes/training_curve.py runs/default/network runs/default/network-2 -o docs/images/default-training

Training loss as the mean over ``--every`` steps, validation loss as it was logged. Writes OUT.csv and OUT.svg.
"""

import argparse
import csv
from pathlib import Path

import numpy as np


def rows(run: Path, every: int) -> list[tuple[int, float, float | None]]:
    """Step, mean training loss since the row before, validation loss where there is one."""
    out, losses = [], []
    with (run / "metrics.csv").open(newline="") as file:
        for line in csv.DictReader(file):
            losses.append(float(line["loss"]))
            if int(line["step"]) % every == 0:
                val = line["val_loss"]
                out.append((int(line["step"]), float(np.mean(losses)), float(val) if val else None))
                losses = []
    return out


def main() -> None:
    import matplotlib as mpl

    mpl.use("svg")
    import matplotlib.pyplot as plt

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", help="folders of train, in the order of the rounds")
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--every", type=int, default=250)
    options = parser.parse_args()
    figure, axis = plt.subplots(figsize=(7, 3.2), layout="constrained")
    begin, lines = 0, []
    for index, run in enumerate(options.runs, start=1):
        points = rows(run, options.every)
        lines += [(index, step, f"{loss:.4f}", "" if val is None else f"{val:.4f}") for step, loss, val in points]
        axis.plot(
            [begin + p[0] for p in points], [p[1] for p in points], "C0", lw=1, label=None if begin else "training"
        )
        held = [p for p in points if p[2] is not None]
        axis.plot([begin + p[0] for p in held], [p[2] for p in held], "C1", label=None if begin else "validation")
        begin += points[-1][0]
        axis.axvline(begin, color="0.8", lw=1)
    axis.set(xlabel="step", ylabel="loss")
    axis.legend(frameon=False)
    figure.savefig(options.out.with_suffix(".svg"))
    with options.out.with_suffix(".csv").open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([("round", "step", "loss", "val_loss"), *lines])


if __name__ == "__main__":
    main()
