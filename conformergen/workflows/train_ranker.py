"""The ``train-ranker`` command: conformers with energies in, a ranker out."""

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import torch

from conformergen.checkpoint import (
    RANKER,
    WEIGHTS,
    Model,
    load_model,
    load_ranker,
    load_ranking,
    ranking_record,
    save_ranking,
)
from conformergen.chem import mmff_energies, mol_with_conformers
from conformergen.datasets.ranked import RankedSet
from conformergen.datasets.shards import file_digest, read_shard
from conformergen.errors import InputError
from conformergen.nn import NetworkSettings
from conformergen.nn.energy import EnergyNetwork
from conformergen.records import ConformerSet, Molecule
from conformergen.sampling import SamplingJob, SamplingSettings, sample_batch
from conformergen.sampling.ranking import predict_energies
from conformergen.training.ranking import RankerTrainer, RankingData, RankingSettings, train_ranker
from conformergen.workflows.devices import limit_threads, resolve_device
from conformergen.workflows.rounds import ROUNDS, settled
from conformergen.workflows.training_report import METRICS

#: Of this many molecules, one is held out.
_FOLD: Final = 10


@dataclass(frozen=True, kw_only=True)
class RankingQuality:
    """Mean over molecules of rank correlation and error of relative energies, kcal/mol, against GFN2-xTB.

    Attributes:
        ranker: Spearman's rho of the ranker.
        force_field: The same of MMFF94s.
        ranker_error: Root mean square error of centred energies.
        force_field_error: The same of MMFF94s.
    """

    ranker: float
    force_field: float
    ranker_error: float
    force_field_error: float


def load_ranked(data: Sequence[Path]) -> list[RankedSet]:
    """Molecules of shard files or folders of them, but those of the test split, in the order of the names.

    Raises:
        InputError: Without any.
    """
    entries = [e for f in _files(data) for e in read_shard(f) if e.split != "test"]
    sets = [with_baseline(e.conformers) for e in entries if e.conformers.energies is not None]
    if not sets:
        raise InputError("no conformers with energies in the data")
    return [s for s in sets if np.isfinite(s.baseline).all()]


def split_ranked(sets: list[RankedSet]) -> tuple[list[RankedSet], list[RankedSet]]:
    """Molecules to train on, and a tenth, by their keys, held out."""
    parts: tuple[list[RankedSet], list[RankedSet]] = ([], [])
    for s in sets:
        parts[is_held_out(s.conformers.molecule)].append(s)
    return parts


def is_held_out(molecule: Molecule) -> bool:
    """Whether no ranker is trained on a molecule, whatever else is in the data."""
    return molecule.key[0] % _FOLD == 0


def initial_ranker(init: str | None) -> EnergyNetwork:
    """The ranker of a ``train-ranker`` run; a new one from the layers of a model; or one of the size of ``small``.

    Raises:
        InputError: When there is no such model.
        DataError: When it is damaged.
    """
    if init is None:
        return EnergyNetwork(NetworkSettings())
    if (Path(init) / RANKER).is_file() and not (Path(init) / WEIGHTS).is_file():
        return load_ranker(Path(init)).requires_grad_()
    source = load_model(init).network
    ranker = EnergyNetwork(source.settings)
    shared = ranker.trunk.state_dict().keys()
    ranker.trunk.load_state_dict({k: v for k, v in source.state_dict().items() if k in shared})
    return ranker


def sampled(ranked: RankedSet, model: Model, *, rounds: int = ROUNDS, device: torch.device | str = "cpu") -> RankedSet:
    """What a model makes of the conformers, in their place, as ``generate`` does; MMFF94s energies of the last seeds.

    Energies of the conformers stay as they are.
    """
    made, baseline = ranked.conformers, ranked.baseline
    for index in range(rounds):
        if index:
            seeds = settled(replace(made, energies=baseline))
            assert seeds.energies is not None
            made, baseline = seeds, seeds.energies
        jobs = [
            SamplingJob(molecule=made.molecule, conformer=i, seed_positions=p) for i, p in enumerate(made.positions)
        ]
        positions = sample_batch(model.network, model.diffusion, jobs, SamplingSettings(steps=1), seed=0, device=device)
        made = replace(made, positions=np.stack(positions))
    return RankedSet(conformers=replace(made, energies=ranked.conformers.energies), baseline=baseline)


def _files(data: Sequence[Path]) -> list[Path]:
    return [p for path in data for p in (sorted(path.glob("*.h5")) if path.is_dir() else [path])]


def with_baseline(conformers: ConformerSet) -> RankedSet:
    """Add MMFF94s energies; NaN without parameters.

    Of references with seeds, which must be of the pairing ``relaxed``, the seeds are what is ranked.
    """
    if conformers.seeds is not None:
        conformers = replace(conformers, positions=conformers.seeds, seeds=None)
    mol = mol_with_conformers(conformers.molecule, conformers.positions)
    return RankedSet(conformers=conformers, baseline=mmff_energies(mol))


def fit(
    data: Sequence[Path],
    out: Path,
    settings: RankingSettings,
    *,
    init: str | None = None,
    samples_of: str | None = None,
    device: str = "auto",
    resume: bool = False,
    report: Callable[[int, float, RankingQuality | None], None] = lambda step, loss, quality: None,
) -> RankingQuality | None:
    """Train and write a ranker; a tenth of the molecules is held out and scored.

    Args:
        data: Shards whose energies are GFN2-xTB energies of MMFF94s minima.
        out: Folder of the ranker; a usable one, with the state to go on from, after each report.
        settings: How it is fitted.
        init: Ranker to go on from, or model whose layers are the start; it also gives the size.
        samples_of: Model that moves the conformers first: what is ranked in ``generate`` are its samples.
        device: ``auto``, ``cpu`` or ``cuda``.
        resume: Go on with the run in ``out``, if there is one; a finished one is left as it is.
        report: Receives step, mean training loss and quality on held-out molecules.

    Raises:
        InputError: When ``out`` exists and is not to be resumed, or without usable data.
        DataError: When what is to be resumed is damaged or of other settings.
    """
    started = out.exists()
    if started and not resume:
        raise InputError(f"{out} exists already; --resume goes on with it")
    limit_threads()
    target = resolve_device(device)
    identity = {
        "training": asdict(settings),
        "init": Path(init).name if init else "",  # a model that is given away names no folder of its maker
        "samples_of": Path(samples_of).name if samples_of else "",
        "data": [file_digest(f) for f in _files(data)],
    }
    lines: list[dict[str, object]] = []
    if started:
        record, finished = ranking_record(out, identity)
        if finished:
            return RankingQuality(**record["quality"]) if record["quality"] else None
        with (out / METRICS).open(newline="") as file:
            lines += csv.DictReader(file)
    ranked = load_ranked(data)
    if samples_of is not None:
        model = load_model(samples_of, device=target)
        ranked = [sampled(s, model, device=target) for s in ranked]
    training, held_out = split_ranked(ranked)
    torch.manual_seed(settings.seed)
    trainer = RankerTrainer(initial_ranker(init), RankingData(training), settings, device=target)
    if started:
        load_ranking(out, trainer)
    quality: RankingQuality | None = None

    def keep(loss: float) -> None:
        nonlocal quality  # the last one is of the ranker that is written
        quality = ranking_quality(trainer.averaged.to(target), held_out) if held_out else None
        scores = asdict(quality) if quality else {}
        lines.append({"step": trainer.step, "loss": loss, **scores})
        log = io.StringIO(newline="")
        writer = csv.DictWriter(log, list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)
        counts = {"molecules": len(training), "held_out": len(held_out)}
        counts["conformers"] = sum(len(s.conformers) for s in training)
        files = {METRICS: log.getvalue().encode()}
        save_ranking(out, trainer, files, **identity, **counts, quality=scores or None)
        report(trainer.step, loss, quality)

    train_ranker(trainer, report=keep)
    return quality


def ranking_quality(ranker: EnergyNetwork, sets: Sequence[RankedSet]) -> RankingQuality:
    """Score a ranker on molecules with at least five conformers."""
    from scipy.stats import spearmanr

    rows = []
    for s in sets:
        energies = s.conformers.energies
        if energies is None or len(energies) < 5 or np.ptp(energies) == 0 or np.ptp(s.baseline) == 0:
            continue
        guess = predict_energies(ranker, s)

        def error(values: np.ndarray, wanted: np.ndarray = energies) -> float:
            difference = values - wanted
            return float(np.sqrt(((difference - difference.mean()) ** 2).mean()))

        rho = [float(spearmanr(v, energies).statistic) for v in (guess, s.baseline)]
        rows.append((*rho, error(guess), error(s.baseline)))
    mean = np.mean(rows, axis=0).tolist() if rows else [float("nan")] * 4
    return RankingQuality(ranker=mean[0], force_field=mean[1], ranker_error=mean[2], force_field_error=mean[3])
