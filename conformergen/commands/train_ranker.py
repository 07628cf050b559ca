"""The ``train-ranker`` command: conformers with energies in, a ranker out."""

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch

from conformergen.checkpoint.folder import RANKER, WEIGHTS
from conformergen.checkpoint.model import Model, load_model, load_ranker
from conformergen.checkpoint.state import load_ranker_run, ranker_record, save_ranker_run
from conformergen.datasets.ranked import RankedSet
from conformergen.errors import InputError
from conformergen.generation.rounds import RoundSettings, round_settings, run_rounds
from conformergen.generation.samples import Samples
from conformergen.nn import NetworkSettings
from conformergen.nn.energy import EnergyNetwork
from conformergen.records import Fallback
from conformergen.runtime.devices import limit_threads, resolve_device
from conformergen.runtime.files import file_digest
from conformergen.runtime.workers import Mapper, Workers
from conformergen.training.logs import METRICS
from conformergen.training.ranker import (
    RankerTrainer,
    RankingQuality,
    RankingSettings,
    ranking_quality,
    train_ranker,
)
from conformergen.training.ranking_data import RankingData, load_ranked, shard_files, split_ranked


def fit_ranker(
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
        data: Shards whose energies are those of the GFN2-xTB minima that the conformers lead to.
        out: Folder of the ranker. After each report it contains a usable ranker and the state to continue from.
        settings: How the ranker is fitted.
        init: Ranker to continue from, or model whose layers are the start; it also gives the size.
        samples_of: Model that moves the conformers first, as ``generate`` does; the ranker then learns to order its
            samples.
        device: ``auto``, ``cpu`` or ``cuda``.
        resume: Continue the run in ``out``, if there is one; a finished run is left as it is.
        report: Receives step, mean training loss, and quality on held-out molecules.

    Raises:
        InputError: When ``out`` exists and is not to be resumed, or without usable data.
        DataError: When what is to be resumed is damaged or belongs to other settings, data or weights.
    """
    started = out.exists()
    if started and not resume:
        raise InputError(f"{out} exists already; --resume continues it")
    limit_threads()
    target = resolve_device(device)
    model = None if samples_of is None else load_model(samples_of, device=target)
    identity = {
        "training": asdict(settings),
        "init": Path(init).name if init else "",  # released checkpoints must not contain local paths
        "samples_of": Path(samples_of).name if samples_of else "",
        "sampled_with": dict(model.digests) if model else {},
        "data": [file_digest(f) for f in shard_files(data)],
    }
    lines: list[dict[str, object]] = []
    if started:
        record, finished = ranker_record(out, identity)
        if finished:
            return RankingQuality(**record["quality"]) if record["quality"] else None
        with (out / METRICS).open(newline="") as file:
            lines += csv.DictReader(file)
    ranked = load_ranked(data)
    if model is not None:
        with Workers(1) as workers:
            ranked = [sample_ranked(s, model, workers=workers, device=target) for s in ranked]
    training, held_out = split_ranked(ranked)
    torch.manual_seed(settings.seed)
    trainer = RankerTrainer(initial_ranker(init), RankingData(training), settings, device=target)
    if started:
        trainer.step = load_ranker_run(out, trainer)
    quality: RankingQuality | None = None

    def keep(loss: float) -> None:
        nonlocal quality  # the last one is that of the ranker that is written
        averaged = trainer.averaged
        quality = ranking_quality(averaged.to(target), held_out) if held_out else None
        scores = asdict(quality) if quality else {}
        lines.append({"step": trainer.step, "loss": loss, **scores})
        counts = {"molecules": len(training), "held_out": len(held_out)}
        counts["conformers"] = sum(len(s.conformers) for s in training)
        save_ranker_run(
            out,
            trainer,
            averaged,
            {METRICS: _csv_bytes(lines)},
            step=trainer.step,
            finished=trainer.step == settings.steps,
            **identity,
            **counts,
            quality=scores or None,
        )
        report(trainer.step, loss, quality)

    train_ranker(trainer, report=keep)
    return quality


def _csv_bytes(lines: Sequence[dict[str, object]]) -> bytes:
    log = io.StringIO(newline="")
    writer = csv.DictWriter(log, list(lines[0]))
    writer.writeheader()
    writer.writerows(lines)
    return log.getvalue().encode()


def initial_ranker(init: str | None) -> EnergyNetwork:
    """Ranker at the start of a run.

    It is the ranker of a ``train-ranker`` run, a new one with the layers of a model, or a new one of the size of the
    preset ``small``.

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


def sample_ranked(
    ranked: RankedSet,
    model: Model,
    *,
    workers: Mapper,
    settings: RoundSettings | None = None,
    device: torch.device | str = "cpu",
) -> RankedSet:
    """Samples of a model in the place of the conformers that they start from, by the rounds that ``generate`` runs.

    Every conformer has a label, so all samples enter the final round.

    Args:
        ranked: Force-field minima with the labels of what they lead to; the labels stay.
        model: Its denoiser moves the conformers.
        workers: Runs the minimisations between rounds.
        settings: Rounds and evaluations; those of a model with a ranker by default.
        device: Device of the model.
    """
    conformers = ranked.conformers
    starts = Samples(
        molecule=conformers.molecule,
        positions=conformers.positions,
        mmff_energies=ranked.baseline,
        fallback=np.full(len(conformers), Fallback.REGULAR, dtype=np.uint8),
        n_final=len(conformers),
    )
    [samples] = run_rounds(model, [starts], settings or round_settings(ranked=True), workers=workers, device=device)
    assert samples.mmff_energies is not None
    return RankedSet(conformers=replace(conformers, positions=samples.positions), baseline=samples.mmff_energies)
