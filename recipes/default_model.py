"""The default checkpoint with its three networks, from its data to the exported folder.

    python recipes/default_model.py -o runs/default [--excerpt EXCERPT.sdf.gz --exclude TEST_LIST.csv]
        [--shepherd SHEPHERD.sdf.gz]

Each stage is a ``conformergen`` command. A stage whose output exists is skipped, so the recipe can be stopped and
started again. The data are those of this repository and, where given, the GEOM-Drugs excerpt (without
``geomdrugs_rot*`` and ``geomdrugs_l02``) and the GDB half of the ShEPhERD geometries, both without the molecules of
TEST_LIST.

The denoiser is trained in three stages. The second stage adds the read-out of torsions and the candidates of the model,
and leaves the excerpt out. The third one uses minima whose torsions were perturbed, as those of candidates are. The
torsion model is trained on torsions of minima. The ranker is trained on single points, and then on the energies of the
minima that the model's samples lead to. ``--share`` shortens every training.
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
DATA = ROOT / "data" / "training"
MINI = ROOT / "data" / "reference-mini"


def stage(out: Path, *arguments: object, done: bool = False) -> Path:
    """Run a command that writes ``out``, unless that is ``done``."""
    if not done:
        command = [sys.executable, "-m", "conformergen", *map(str, arguments), "-o", str(out)]
        print(" ".join(command[2:]), flush=True)
        subprocess.run(command, check=True)
    return out


def shards(out: Path, source: Path, *options: object, pairing: str = "minimised") -> Path:
    """Pairs of references and MMFF94s minima near them."""
    done = (out / "manifest.json").exists()
    return stage(out, "preprocess", source, "--pairing", pairing, *options, done=done)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--excerpt", type=Path)
    parser.add_argument("--shepherd", type=Path)
    parser.add_argument("--exclude", type=Path, help="SMILES that must not be trained on")
    parser.add_argument("--share", type=float, default=1.0)
    options = parser.parse_args()
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)
    listed = ["--exclude-smiles", options.exclude] if options.exclude else []

    optimised, ensembles, candidates, minima = (DATA / x for x in ("optimised", "ensembles", "candidates", "minima"))
    mini = shards(out / "mini", MINI, "--max-confs", 100, "--split", MINI / "split.json")
    pairs = [optimised, ensembles, DATA / "singles", mini]
    if options.shepherd:
        # The other half is of another level of theory. Of some, geometry and SMILES are different stereoisomers.
        left_out: list[object] = ["--exclude-name", "shepherd_mosesaq*", *listed, "--max-failures", 50]
        pairs.append(shards(out / "shepherd", options.shepherd, *left_out))
    excerpt = []
    if options.excerpt:
        left_out = ["--exclude-name", "geomdrugs_rot*", "--exclude-name", "geomdrugs_l02", *listed]
        excerpt.append(shards(out / "excerpt", options.excerpt, "--max-confs", 40, *left_out))

    def steps(n: int) -> list[object]:
        return ["--steps", max(2, int(n * options.share))]

    def data(folders: list[Path]) -> list[object]:
        return [x for folder in folders for x in ("--data", folder)]

    network, second, third, torsions, points, ranker, model = (
        out / name for name in ("network", "network-2", "network-3", "torsions", "ranker-points", "ranker", "default")
    )

    def train(run: Path, n: int, folders: list[Path], *start: object, rate: float = 0.003) -> None:
        last = max(2, int(n * options.share))
        done = (run / f"ckpt-{last:08d}").exists()
        sets = [f"training.learning_rate={rate}", "diffusion.sigma=0.01", "training.confs_per_epoch=20"]
        stage(
            run, "train", *data(folders), "--preset", "small", "--relaxation", "none",
            "--steps", last, "--resume", *start, *(x for s in sets for x in ("--set", s)), done=done,
        )  # fmt: skip

    train(network, 12_000, pairs + excerpt)
    train(second, 8_000, [*pairs, candidates], "--init", network, "--set", "network.torsions=true")
    few: list[object] = ["--max-confs", 12, "--max-failures", 5, "--split"]
    perturbed = {
        folder: shards(out / f"perturbed-{folder.name}", folder, *few, split, pairing="perturbed")
        for folder, split in ((minima, "keep"), (ensembles, "keep"), (candidates, "keep"), (MINI, MINI / "split.json"))
    }
    train(third, 4_000, [*perturbed.values(), minima], "--init", second, "--set", "network.torsions=true", rate=0.0012)
    torsion_sets = [
        optimised, candidates, ensembles, minima,
        *(DATA / x for x in ("complete", "gfnff", "single-points", "searched-torsions")),
    ]  # fmt: skip
    if not torsions.exists():
        unfinished = torsions.with_name("torsions-unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        stage(unfinished, "train-torsions", *data(torsion_sets), *steps(8000))
        unfinished.rename(torsions)
    stage(
        points, "train-ranker", "--resume", *data([DATA / "single-points"]), "--init", second, *steps(4000),
        "--learning-rate", 1.5e-3,
    )  # fmt: skip
    labelled = [perturbed[ensembles], perturbed[MINI], minima, candidates, DATA / "samples"]
    stage(
        ranker, "train-ranker", "--resume", *data(labelled), "--init", points,
        "--samples-of", third, *steps(1200), "--learning-rate", 5e-4,
    )  # fmt: skip
    stage(
        model, "export", third, "--exact", "--name", "default", "--ranker", ranker,
        "--torsion-model", torsions, done=model.exists(),
    )  # fmt: skip
    print(model)


if __name__ == "__main__":
    main()
