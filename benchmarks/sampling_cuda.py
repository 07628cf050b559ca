"""Sampling on a GPU: milliseconds a conformer, network and transfers, without seeds.

    python benchmarks/sampling_cuda.py [--device cuda] [--molecules 1000] [-n 20]

Molecules of ``data/training/molecules.smi``; the shipped network, and one of 8.3 million parameters (the size of
ET-Flow) with random weights: cost does not depend on them. ``pairs`` is the batch, in padded atom pairs.
"""

import argparse
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from conformergen.checkpoint.model import load_model
from conformergen.chem import molecule_from_smiles
from conformergen.nn import NetworkSettings, make_backbone
from conformergen.sampling import SamplingJob, SamplingSettings, plan_batches, sample_batch

MOLECULES = Path(__file__).parent.parent / "data" / "training" / "molecules.smi"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--molecules", type=int, default=1000)
    parser.add_argument("-n", type=int, default=20)
    parser.add_argument("--pairs", default="100000,400000,1600000")
    options = parser.parse_args()
    lines = MOLECULES.read_text().splitlines()
    rng = np.random.default_rng(0)
    jobs = []
    for line in lines[:: max(1, len(lines) // options.molecules)][: options.molecules]:
        molecule = molecule_from_smiles(line.split()[0], "")
        for i in range(options.n):
            positions = rng.standard_normal((molecule.graph.n_atoms, 3)).astype(np.float32) * 3.0
            jobs.append(SamplingJob(molecule=molecule, conformer=i, start_positions=positions))
    sizes = [job.molecule.graph.n_atoms for job in jobs]
    print(f"{len(jobs)} conformers, {np.mean(sizes):.0f} atoms in the mean")
    model = load_model("default", device=options.device)
    large = make_backbone(NetworkSettings(channels=208, odd_channels=40, layers=9)).to(options.device).eval()
    for name, network in (("default", model.network), ("8.3 million", large)):
        weights = sum(p.numel() for p in network.parameters())
        for pairs in map(int, options.pairs.split(",")):
            batches = [[jobs[i] for i in batch] for batch in plan_batches(sizes, pairs)]
            for steps in (1, 10, 50):
                # A tenth of the batches where they are many, of all sizes.
                some = batches[:: 1 if steps == 1 else 10]
                settings = replace(SamplingSettings(), steps=steps, pair_budget=pairs)
                sample = partial(sample_batch, network, model.diffusion, seed=0, device=options.device)
                sample(some[-1], settings=replace(settings, steps=1))
                began = time.perf_counter()  # a batch ends with its copy to the host
                for batch in some:
                    sample(batch, settings=settings)
                seconds = time.perf_counter() - began
                count = sum(map(len, some))
                print(
                    f"{name} ({weights}) pairs {pairs} evaluations {steps}: {1000 * seconds / count:.3f} ms", flush=True
                )


if __name__ == "__main__":
    main()
