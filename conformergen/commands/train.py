"""The ``train`` command: shards in, checkpoints and logs out; a resumed run repeats the whole one bit for bit."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch

from conformergen.checkpoint.folder import find_checkpoints
from conformergen.checkpoint.keeper import CheckpointKeeper, restore_newest
from conformergen.checkpoint.model import load_model
from conformergen.checkpoint.state import load_run, save_run
from conformergen.config import RunConfig, to_json
from conformergen.datasets.folders import data_record, load_sets, starts_are_minimised
from conformergen.datasets.loader import TrainingSet
from conformergen.errors import InputError
from conformergen.generation.rounds import round_settings
from conformergen.nn import Backbone, make_backbone
from conformergen.nn.relaxation import CLOSED_BETA
from conformergen.records import ConformerSet
from conformergen.reports.training_report import write_training_report
from conformergen.runtime.devices import limit_threads, process_group, resolve_device
from conformergen.runtime.locks import exclusive_output
from conformergen.runtime.signals import StopSignals
from conformergen.sampling import SamplingJob, equivariance_error
from conformergen.training.diagnostics import OpenBetaWarning
from conformergen.training.logs import TrainingLogs, log_to
from conformergen.training.loop import LogLine, run_with_one_restart, train_loop
from conformergen.training.trainer import Trainer

Warn = Callable[[str], None]
#: Validation conformers drawn from each molecule.
_VALIDATION_CONFORMERS: Final = 4
#: Number of validation molecules, the smallest ones, on which the equivariance error is measured.
_N_EQUIVARIANCE: Final = 4


@dataclass(frozen=True, kw_only=True)
class TrainSummary:
    """What a run did.

    Attributes:
        step: Last step taken.
        finished: Whether that was the last step of the run.
        val_loss: Newest validation loss of the averaged weights at beta = 0.
        n_skipped: Steps skipped because of a non-finite gradient.
    """

    step: int
    finished: bool
    val_loss: float | None
    n_skipped: int


@exclusive_output
def train(  # noqa: PLR0913  one argument for each option of the command
    data: list[Path],
    out: Path,
    config: RunConfig,
    *,
    device: str = "auto",
    time_limit: float | None = None,
    resume: bool = False,
    init: str | None = None,
    report: Callable[[LogLine], None] = lambda line: None,
    warn: Warn = lambda text: None,
) -> TrainSummary:
    """Train one denoiser.

    Args:
        data: Shard folders.
        out: Run folder: checkpoints, ``best``, metrics, settings.
        config: The whole run.
        device: ``auto``, ``cpu`` or ``cuda``.
        time_limit: Seconds of wall time after which a checkpoint is written and the run ends.
        resume: Continue from the newest good checkpoint, if there is one.
        init: Checkpoint whose weights are the start; the settings of the network must agree.
        report: Receives each log line.
        warn: Receives warnings.

    Raises:
        InputError: For an unusable folder or data.
        DataError: For damaged shards or checkpoints.
        DivergedError: When training collapses again after it went back to a checkpoint at half the learning rate.
        LockedError: When another run works on ``out``.
    """
    limit_threads()
    checkpoints = find_checkpoints(out)
    if checkpoints and not resume:
        raise InputError(f"{out} holds a run already: continue it with --resume or choose another folder")
    settings = config.training
    held_out = load_sets(data, "val")
    training, validation, extra = _training_sets(data, held_out, config)
    torch.manual_seed(settings.seed)  # for the initial weights only; every later draw has its own generator
    network = make_backbone(config.network)
    if init is not None:
        _initialise(network, init)
    deadline = None if time_limit is None else time.monotonic() + time_limit
    with process_group(resolve_device(device)) as target, StopSignals() as signals:
        trainer = Trainer(network, config.diffusion, settings, relaxation=config.network.relaxation.mode, device=target)

        def restore(found: list[Path]) -> dict[str, Any] | None:
            settings = restore_newest(found, lambda folder: load_run(folder, trainer, config), warn)
            if settings is not None:
                trainer.set_progress(**settings["progress"])
            return settings

        restored = restore(checkpoints) if resume else None
        keeper = CheckpointKeeper(
            out,
            lambda folder, losses: save_run(
                folder, trainer, trainer.averaged, config, trainer.progress(), **extra, **losses
            ),
            best=(restored or {}).get("best_val_loss"),
        )
        loop = partial(train_loop, trainer, training, deadline=deadline, request=signals.request)

        def work() -> None:
            if trainer.rank:  # the first process alone validates and writes
                loop(None)
                return
            symmetry = _symmetry(held_out, config)
            with TrainingLogs(out, trainer) as logs:
                log = log_to(logs.write, report, OpenBetaWarning(trainer, warn).warn_if_open)
                loop(validation, log=log, save=partial(_save, keeper), symmetry=symmetry)

        if not trainer.rank:
            out.mkdir(parents=True, exist_ok=True)
            (out / "config.json").write_text(to_json(config) + "\n")
        run_with_one_restart(work, trainer, lambda: restore(find_checkpoints(out)), warn)
        finished = trainer.step == settings.steps
        summary = TrainSummary(
            step=trainer.step, finished=finished, val_loss=keeper.newest, n_skipped=trainer.n_skipped
        )
        if trainer.rank:
            return summary
    try:
        write_training_report(out)
    except InputError as error:
        warn(str(error))
    return summary


def _save(keeper: CheckpointKeeper, trainer: Trainer, val_loss: float | None) -> None:
    """Commit a checkpoint; where betas close by themselves, only a closed network may become the best."""
    exportable = not trainer.relaxation.closes or trainer.max_beta() <= CLOSED_BETA
    keeper.save(trainer.step, val_loss, exportable=exportable)


def _training_sets(
    data: list[Path], held_out: list[ConformerSet], config: RunConfig
) -> tuple[TrainingSet, TrainingSet | None, Mapping[str, Any]]:
    """Training and validation set, and what a checkpoint says about them."""
    settings = config.training
    sets = load_sets(data, "train")
    extra = {"starts_mmff94s": starts_are_minimised(data), "data": data_record(data, sets, held_out)}
    training = TrainingSet(sets, pair_budget=settings.pair_budget, confs_per_epoch=settings.confs_per_epoch)
    validation = None
    if held_out:
        validation = TrainingSet(held_out, pair_budget=settings.pair_budget, confs_per_epoch=_VALIDATION_CONFORMERS)
    if config.diffusion.prior == "seed" and not training.has_starts:
        raise InputError("the seed prior needs shards with start structures: preprocess without --no-starts")
    return training, validation, extra


def _symmetry(held_out: list[ConformerSet], config: RunConfig) -> Callable[[Backbone, torch.device], float]:
    """Equivariance error in Å, on a few validation molecules, of the sampling that ``generate`` runs."""
    smallest = sorted(held_out, key=lambda s: s.molecule.graph.n_atoms)[:_N_EQUIVARIANCE]
    jobs = [
        SamplingJob(molecule=s.molecule, conformer=0, start_positions=None if s.starts is None else s.starts[0])
        for s in smallest
    ]

    def error(network: Backbone, device: torch.device) -> float:
        sampling = round_settings(ranked=False).sampling(device)
        seed = config.training.seed
        return equivariance_error(network, config.diffusion, jobs, sampling, seed=seed, device=device)

    return error


def _initialise(network: torch.nn.Module, name: str) -> None:
    start = load_model(name).network.state_dict()
    try:
        missing, _ = network.load_state_dict(start, strict=False)
    except RuntimeError as error:
        raise InputError(f"{name} is a network of another size", setting="init") from error
    # Branches and the torsion readout start at zero, so a network without them is the same function.
    if any("branch" not in key and not key.startswith("torsions.") for key in missing):
        raise InputError(f"{name} is a network of another kind", setting="init")
