"""The ``train`` command: shards in, checkpoints and logs out; resumes bit for bit on the CPU."""

import csv
import importlib.util
import os
import signal
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

import torch

from conformergen.checkpoint import find_checkpoints, load_model, load_training, save_training
from conformergen.config import RunConfig, to_json
from conformergen.datasets.loader import TrainingSet
from conformergen.datasets.shards import read_folder, read_manifest
from conformergen.errors import DataError, DivergedError, InputError
from conformergen.nn import Backbone, make_backbone
from conformergen.nn.relaxation import CLOSED_BETA
from conformergen.records import ConformerSet
from conformergen.sampling import SamplingJob, SamplingSettings, equivariance_error
from conformergen.storage import exclusive_output, temporary_name
from conformergen.training.loop import LogLine, Trainer, train_loop
from conformergen.workflows.devices import limit_threads, process_group, resolve_device
from conformergen.workflows.training_report import METRICS, RELAXATION, write_training_report

#: Newest checkpoints kept besides the best.
KEPT: Final = 3
#: Level above which a block counts as open at half time, in runs long enough for levels to settle.
OPEN_BETA: Final = 0.02
_SETTLING: Final = 1000
Warn = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class TrainSummary:
    """What a run did.

    Attributes:
        step: Last step taken.
        finished: Whether it reached its last step.
        val_loss: Newest validation loss of the averaged weights at beta = 0.
        skipped: Steps skipped for a non-finite gradient.
    """

    step: int
    finished: bool
    val_loss: float | None
    skipped: int


def load_sets(folders: list[Path], split: str) -> list[ConformerSet]:
    """Ensembles with at least one conformer of a split of several shard folders."""
    return [s for folder in folders for s in read_folder(folder, split=split) if len(s)]


def seeds_are_minimised(folders: list[Path]) -> bool:
    """Whether the seed conformers in the shards went through MMFF94s; they must agree.

    Raises:
        InputError: When they do not.
    """
    kinds = set()
    for folder in folders:
        seeds = read_manifest(folder)["configuration"].get("seeds")
        kinds.add(None if seeds is None else bool(seeds["mmff94s"]))
    if len(kinds) != 1:
        raise InputError("the shard folders hold different kinds of seed conformers")
    return kinds.pop() is not False


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
    """Train one network.

    Args:
        data: Shard folders.
        out: Run folder: checkpoints, ``best``, metrics, settings.
        config: The whole run.
        device: ``auto``, ``cpu`` or ``cuda``.
        time_limit: Seconds of wall time after which a checkpoint is written and the run ends.
        resume: Continue from the newest good checkpoint, if there is one.
        init: Checkpoint whose weights are the start; settings of the network must agree.
        report: Receives each log line.
        warn: Receives warnings.

    Raises:
        InputError: For an unusable folder or data.
        DataError: For damaged shards or checkpoints.
        DivergedError: When it collapses numerically again after going back to a checkpoint at half the learning rate.
        LockedError: When another run works on ``out``.
    """
    limit_threads()
    checkpoints = find_checkpoints(out)
    if checkpoints and not resume:
        raise InputError(f"{out} holds a run already: continue it with --resume or choose another folder")
    settings = config.training
    held_out = load_sets(data, "val")
    training, validation, extra = _training_sets(data, held_out, config)
    torch.manual_seed(settings.seed)  # initial weights only; every later draw has its own generator
    network = make_backbone(config.network)
    if init is not None:
        _initialise(network, init)
    deadline = None if time_limit is None else time.monotonic() + time_limit
    with process_group(resolve_device(device)) as target, _Signals() as signals:
        trainer = Trainer(network, config.diffusion, settings, relaxation=config.network.relaxation.mode, device=target)
        best = _resume(checkpoints, trainer, config, warn) if resume else None
        if trainer.rank:  # the first process alone validates and writes

            def work() -> None:
                train_loop(trainer, training, None, deadline=deadline, request=signals.request)

            _twice(work, trainer, out, config, warn)
            return _summary(trainer, None)
        out.mkdir(parents=True, exist_ok=True)
        (out / "config.json").write_text(to_json(config) + "\n")
        records = _Records(out, config, extra, best=best, examples=_sampling_examples(held_out), warn=warn)

        def work() -> None:
            for name in (METRICS, RELAXATION):
                _truncate(out / name, trainer.step)
            with _Logs(out, trainer) as logs:

                def log(line: LogLine) -> None:
                    logs.write(line)
                    report(line)
                    records.look(trainer, line)

                train_loop(
                    trainer,
                    training,
                    validation,
                    log=log,
                    save=records.save,
                    symmetry=records.symmetry,
                    deadline=deadline,
                    request=signals.request,
                )

        _twice(work, trainer, out, config, warn)
    try:
        write_training_report(out)
    except InputError as error:
        warn(str(error))
    return _summary(trainer, records.newest)


def _training_sets(
    data: list[Path], held_out: list[ConformerSet], config: RunConfig
) -> tuple[TrainingSet, TrainingSet | None, dict[str, Any]]:
    """Training and validation set, and what a checkpoint says about them."""
    settings = config.training
    sets = load_sets(data, "train")
    extra = {"seeds_mmff94s": seeds_are_minimised(data), "data": data_record(data, sets, held_out)}
    training = TrainingSet(sets, pair_budget=settings.pair_budget, confs_per_epoch=settings.confs_per_epoch)
    validation = None
    if held_out:
        validation = TrainingSet(held_out, pair_budget=settings.pair_budget, confs_per_epoch=4)
    if config.diffusion.prior == "seed" and not training.has_seeds:
        raise InputError("the seed prior needs shards with seed conformers: preprocess without --no-seeds")
    return training, validation, extra


def _twice(work: Callable[[], None], trainer: Trainer, out: Path, config: RunConfig, warn: Warn) -> None:
    """Train; after a numerical collapse go back to the newest checkpoint, once, and on at half the learning rate."""
    try:
        work()
    except DivergedError as error:
        checkpoints = find_checkpoints(out)
        if trainer.caution < 1.0 or not checkpoints:
            raise
        _resume(checkpoints, trainer, config, warn)
        if trainer.caution < 1.0:
            raise
        trainer.caution, trainer.skipped = 0.5, []
        warn(f"{error}; on from step {trainer.step} at half the learning rate")
        work()


def _summary(trainer: Trainer, val_loss: float | None) -> TrainSummary:
    finished = trainer.step == trainer.settings.steps
    return TrainSummary(step=trainer.step, finished=finished, val_loss=val_loss, skipped=trainer.n_skipped)


class _Records:
    """Checkpoints of a run, and what is looked at beside the loss."""

    def __init__(
        self,
        out: Path,
        config: RunConfig,
        extra: dict[str, Any],
        *,
        best: float | None,
        examples: list[SamplingJob],
        warn: Warn,
    ) -> None:
        self.out, self.config, self.extra, self.examples, self.warn = out, config, extra, examples, warn
        self.best = self.newest = best
        self.warned = False

    def save(self, trainer: Trainer, val_loss: float | None) -> None:
        """Commit a checkpoint, keep the best, retire old ones.

        Where levels close by themselves, the best is looked for after that: it can be exported as it is.
        """
        self.newest = val_loss
        ready = not trainer.relaxation.closes or trainer.max_beta() <= CLOSED_BETA
        improved = ready and val_loss is not None and (self.best is None or val_loss < self.best)
        self.best = val_loss if improved else self.best
        # The best first: after a kill between the two, the older checkpoint knows nothing of it and it is made again.
        names = [*(["best"] if improved else []), f"ckpt-{trainer.step:08d}"]
        for name in names:
            losses = {"val_loss": val_loss, "best_val_loss": self.best}
            save_training(self.out / name, trainer, self.config, **self.extra, **losses)
        for old in find_checkpoints(self.out)[KEPT:]:
            _remove(old)

    def symmetry(self, network: Backbone, device: torch.device) -> float:
        """Equivariance error of the sampler on a few validation molecules, Å."""
        settings = SamplingSettings()
        seed = self.config.training.seed
        return equivariance_error(network, self.config.diffusion, self.examples, settings, seed=seed, device=device)

    def look(self, trainer: Trainer, line: LogLine) -> None:
        """Warn once, at half time: scalar-to-vector blocks stay open where the data have a preferred frame."""
        steps, mode = trainer.settings.steps, trainer.relaxation.settings.mode
        half = steps // 2 <= line.step < steps and steps >= _SETTLING
        if self.warned or not half or not trainer.branches or mode not in ("recm", "learned"):
            return
        self.warned = True
        first = trainer.branches[0]
        for name, beta in zip(first.names, first.beta.tolist(), strict=True):
            if name == "0e>1o" and abs(beta) > OPEN_BETA:
                self.warn(f"beta of the first {name} is {beta:.3f} at half time: check rotation augmentation")


def data_record(folders: list[Path], sets: list[ConformerSet], held_out: list[ConformerSet]) -> dict[str, Any]:
    """What a checkpoint says about its data: folder names, shard digests, counts."""
    return {
        "shards": {
            folder.name: [line["content_sha256"] for line in read_manifest(folder)["shards"]] for folder in folders
        },
        "molecules": len(sets),
        "conformers": sum(len(s) for s in sets),
        "validation_molecules": len(held_out),
    }


#: Validation molecules on which the sampler's equivariance is measured.
_N_SYMMETRY: Final = 4


def _sampling_examples(held_out: list[ConformerSet]) -> list[SamplingJob]:
    smallest = sorted(held_out, key=lambda s: s.molecule.graph.n_atoms)[:_N_SYMMETRY]
    return [
        SamplingJob(molecule=s.molecule, conformer=0, seed_positions=None if s.seeds is None else s.seeds[0])
        for s in smallest
    ]


def _initialise(network: torch.nn.Module, name: str) -> None:
    start = load_model(name).network.state_dict()
    try:
        missing, _ = network.load_state_dict(start, strict=False)
    except RuntimeError as error:
        raise InputError(f"--init {name}: a network of another size") from error
    # Branches and the readout of torsions start at nothing: a network without them is the same function.
    if any("branch" not in key and not key.startswith("torsions.") for key in missing):
        raise InputError(f"--init {name}: a network of another kind")


def _resume(checkpoints: list[Path], trainer: Trainer, config: RunConfig, warn: Warn) -> float | None:
    """Load the newest good checkpoint; a damaged one is named and the one before it is used."""
    for folder in checkpoints:
        try:
            best: float | None = load_training(folder, trainer, config).get("best_val_loss")
        except DataError as error:
            if "other settings" in str(error):
                raise
            warn(f"{error}; trying the checkpoint before it")
            continue
        return best
    if checkpoints:
        raise DataError(f"none of {len(checkpoints)} checkpoints can be read")
    return None


def _remove(folder: Path) -> None:
    """Retire a checkpoint by rename first, so that a kill in between leaves no half of one."""
    import shutil

    retired = temporary_name(folder.with_name(f"old-{folder.name}"))
    os.replace(folder, retired)
    shutil.rmtree(retired)


def _truncate(path: Path, step: int) -> None:
    """Drop lines of a CSV log after ``step``: each step is logged once."""
    if not path.is_file():
        return
    with path.open(newline="") as file:
        rows = list(csv.reader(file))
    kept = rows[:1] + [r for r in rows[1:] if r and r[0].isdigit() and int(r[0]) <= step]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(kept)


class _Logs:
    """CSV logs, and TensorBoard where it is installed."""

    def __init__(self, out: Path, trainer: Trainer) -> None:
        self._trainer = trainer
        self._metrics = (out / METRICS).open("a", newline="")
        self._relaxation = (out / RELAXATION).open("a", newline="")
        if self._metrics.tell() == 0:
            csv.writer(self._metrics).writerow([f.name for f in fields(LogLine)])
        if self._relaxation.tell() == 0:
            csv.writer(self._relaxation).writerow(["step", "layer", "block", "beta", "s", "c", "memory"])
        self._board: Any = None
        if importlib.util.find_spec("tensorboard") is not None:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(out / "tensorboard"))

    def __enter__(self) -> "_Logs":
        return self

    def __exit__(self, *_: object) -> None:
        self._metrics.close()
        self._relaxation.close()
        if self._board is not None:
            self._board.close()

    def write(self, line: LogLine) -> None:
        """Append one line to each log."""
        values = asdict(line) | {"layer_betas": " ".join(f"{b:.6g}" for b in line.layer_betas)}
        csv.writer(self._metrics).writerow(["" if v is None else v for v in values.values()])
        writer = csv.writer(self._relaxation)
        for layer, branch in enumerate(self._trainer.branches):
            columns = (branch.beta.tolist(), branch.scale.tolist(), branch.cosine.tolist(), branch.memory.tolist())
            for name, beta, scale, cosine, memory in zip(branch.names, *columns, strict=True):
                numbers = [f"{v:.6g}" for v in (beta, scale, cosine)]
                writer.writerow([line.step, layer, name, *numbers, " ".join(f"{m:.6g}" for m in memory)])
        self._metrics.flush()
        self._relaxation.flush()
        if self._board is not None:
            for key, value in values.items():
                if key != "step" and isinstance(value, float):
                    self._board.add_scalar(key, value, line.step)


class _Signals:
    """SIGTERM and SIGINT finish the step, write a checkpoint and leave, a second one at once; SIGUSR1 writes one."""

    def __init__(self) -> None:
        self._stop: list[int] = []
        self._asked = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "_Signals":
        try:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
                self._previous[number] = signal.signal(number, self._handle)
        except ValueError:  # not the main thread: the caller keeps its own handlers
            pass
        return self

    def _handle(self, number: int, frame: object) -> None:
        del frame
        if number == signal.SIGUSR1:
            self._asked = True
        elif self._stop:
            raise SystemExit(128 + number)
        else:
            self._stop.append(number)

    def request(self) -> str | None:
        """What the signals since the last question ask for."""
        asked, self._asked = self._asked, False
        return "stop" if self._stop else "checkpoint" if asked else None

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        if self._stop and kind is None:
            raise SystemExit(128 + self._stop[0])
