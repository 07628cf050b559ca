"""Molecules with genuine references and cached seeds, that a network is sampled for and scored on."""

import fnmatch
import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from rdkit import Chem

from conformergen.chem import mol_with_conformers, molecule_from_mol, parse_smiles
from conformergen.diffusion import DiffusionSettings
from conformergen.evaluation.metrics import METRICS
from conformergen.evaluation.scoring import ScoringTask, score_molecule
from conformergen.evaluation.summary import molecule_values
from conformergen.io.formats.sdf import read
from conformergen.nn import Backbone
from conformergen.records import Molecule
from conformergen.sampling import SamplingJob, SamplingSettings, plan_batches, sample_batch


class HeldOut:
    """Molecules of a multi-conformer SDF with a SMILES property, K capped, and 2K seeds of each.

    Args:
        excerpt: The SDF.
        select: Shell pattern of names.
        cap: References kept of each molecule.
        cache: Pickle of the seeds, made once.
        make_seeds: Positions (conformer, atom, 3) of a molecule for a number.
    """

    def __init__(
        self, excerpt: Path, select: str, cap: int, cache: Path, make_seeds: Callable[[Molecule, int], np.ndarray]
    ) -> None:
        self.molecules: list[Molecule] = []
        self.seeds: list[np.ndarray] = []
        self.tasks: list[Callable[..., ScoringTask]] = []
        known = pickle.loads(cache.read_bytes()) if cache.is_file() else {}  # noqa: S301  our own file
        for raw in read(excerpt):
            if not fnmatch.fnmatchcase(raw.name, select) or not raw.smiles:
                continue
            molecule = molecule_from_mol(parse_smiles(raw.smiles), raw.name)
            references = list(raw.conformers[:cap])
            key = (molecule.smiles, len(references))
            if key not in known:
                known[key] = make_seeds(molecule, 2 * len(references))
            self.molecules.append(molecule)
            self.seeds.append(known[key])
            self.tasks.append(partial(ScoringTask, name=raw.name, smiles=raw.smiles, references=references))
        cache.write_bytes(pickle.dumps(known))

    def score(self, positions: list[np.ndarray]) -> dict[str, list[float]]:
        """Values of each molecule at 0.75 Å."""
        scores = []
        for task, molecule, samples in zip(self.tasks, self.molecules, positions, strict=True):
            mol = mol_with_conformers(molecule, samples)
            single = [Chem.Mol(mol, confId=c.GetId()) for c in mol.GetConformers()]
            scores.append(score_molecule(task(samples=single)))
        return {name: molecule_values(scores, name, 0.75).tolist() for name in METRICS}


def jobs_of(molecules: list[Molecule], seeds: list[np.ndarray]) -> list[SamplingJob]:
    """A job for each seed of each molecule, in order."""
    return [
        SamplingJob(molecule=molecule, conformer=i, start_positions=row)
        for molecule, rows in zip(molecules, seeds, strict=True)
        for i, row in enumerate(rows)
    ]


def samples_of(
    network: Backbone,
    diffusion: DiffusionSettings,
    molecules: list[Molecule],
    seeds: list[np.ndarray],
    settings: SamplingSettings,
) -> list[np.ndarray]:
    """As many conformers of each molecule as it has seeds."""
    jobs = jobs_of(molecules, seeds)
    done: dict[int, np.ndarray] = {}
    for batch in plan_batches([j.molecule.graph.n_atoms for j in jobs], settings.pair_budget):
        made = sample_batch(network, diffusion, [jobs[i] for i in batch], settings, seed=0)
        done |= dict(zip(batch, made, strict=True))
    rows = iter(range(len(jobs)))
    return [np.stack([done[next(rows)] for _ in own]) for own in seeds]
