"""The ``train-torsions`` command: torsions of minima in, a torsion model out."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
from safetensors.numpy import save

from conformergen.checkpoint.folder import (
    SCHEMA,
    SETTINGS,
    TORSION_MODEL,
    find_torsion_model,
    settings_bytes,
    verify,
    write_checkpoint,
)
from conformergen.errors import InputError
from conformergen.runtime.devices import limit_threads
from conformergen.torsion import TorsionModelFile
from conformergen.torsion.model import TorsionModel
from conformergen.training.torsion_data import TorsionSet, load_torsion_sets
from conformergen.training.torsion_model import (
    TEMPERATURE,
    PaddedTorsions,
    TorsionModelSettings,
    TorsionModelTrainer,
    train_torsion_model,
)
from conformergen.version import __version__

#: Folders whose molecules are drawn less often, because their minima are of a cheaper level of theory, or because they
#: have only one or two minima; relative to other folders.
_SHARES: Final = {"gfnff": 0.3, "single-points": 0.7}
#: Folders whose held-out molecules choose the weights: ensembles of GFN2-xTB minima.
_JUDGES: Final = ("candidates", "complete", "ensembles", "minima", "optimised")


@dataclass(frozen=True, kw_only=True)
class TorsionModelQuality:
    """Cross-entropy on held-out GFN2-xTB minima, nats for each torsion; a uniform draw has 3.58.

    Attributes:
        step: Step of the weights that were kept.
        unconditional: Of each torsion by itself.
        given: With a random part of the other torsions given.
    """

    step: int
    unconditional: float
    given: float


def fit_torsion_model(
    data: Sequence[Path],
    out: Path,
    settings: TorsionModelSettings,
    *,
    init: str | None = None,
    report: Callable[[TorsionModelQuality], None] = lambda quality: None,
) -> TorsionModelQuality:
    """Train and write a torsion model; the weights that predict held-out minima best are kept.

    A tenth of the molecules, the same as for ``train-ranker``, is held out.

    Args:
        data: Folders of shards with energies, or of ``.npz`` files of searched molecules.
        out: Folder of the model; it contains usable weights after each improvement.
        settings: How the model is fitted.
        init: Checkpoint, or folder of an earlier run, whose weights are the start; they also give the size.
        report: Receives the quality at each evaluation.

    Raises:
        InputError: When ``out`` exists, or without usable data.
        DataError: When the data or the initial weights are damaged.
    """
    if out.exists():
        raise InputError(f"{out} exists already")
    limit_threads()
    start = None if init is None else load_initial(init)
    training, shares, held_out = _load(data)
    if not training or not held_out:
        raise InputError("the data contain no molecule to train on, or none that is held out")
    trainer = TorsionModelTrainer(
        PaddedTorsions(training, shares), settings, init=None if start is None else start.weights
    )
    record = {
        "training": asdict(settings),
        "init": Path(init).name if init else "",  # released checkpoints must not contain local paths
        "data": [folder.name for folder in data],
        "molecules": len(training),
        "held_out": len(held_out),
    }
    kept: list[TorsionModelQuality] = []

    def keep(step: int, nats: tuple[float, float], improved: bool) -> None:  # noqa: FBT001  a result, not an option
        quality = TorsionModelQuality(step=step, unconditional=nats[0], given=nats[1])
        if improved:
            kept.append(quality)
            weights = {name: w.numpy().astype(np.float16) for name, w in trainer.averaged.items()}
            about = {**record, "quality": asdict(quality)}
            document = {"schema": SCHEMA, "program": f"conformergen {__version__}", "torsion_model": about}
            write_checkpoint(out, {TORSION_MODEL: save(weights), SETTINGS: settings_bytes(document)})
        report(quality)

    train_torsion_model(trainer, PaddedTorsions(held_out), report=keep)
    return kept[-1]


def load_initial(name: str) -> TorsionModel:
    """Torsion model of a ``train-torsions`` run or of a checkpoint.

    Raises:
        InputError: When there is no such folder or checkpoint.
        DataError: When it is damaged.
    """
    path = Path(name) / TORSION_MODEL
    if path.is_file():
        return TorsionModelFile(path=str(path), digest=verify(Path(name), TORSION_MODEL)[TORSION_MODEL]).load()
    return find_torsion_model(name).load()


def _load(data: Sequence[Path]) -> tuple[list[TorsionSet], list[float], list[TorsionSet]]:
    """Molecules to train on, how often each is drawn, and held-out molecules that choose the weights."""
    training, shares, held_out = [], [], []
    for folder in data:
        for t in load_torsion_sets(folder):
            if t.held_out:
                held_out += [t] if folder.name in _JUDGES else []
                continue
            training.append(t)
            weights = np.exp(-t.energies.astype(np.float64) / TEMPERATURE)
            n_effective = weights.sum() ** 2 / (weights**2).sum()
            shares.append(_SHARES.get(folder.name, 1.0) * min(1.0, 0.25 + 0.25 * n_effective))
    return training, shares, held_out
