"""The ``export`` command: a model for inference."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import torch

from conformergen.checkpoint import (
    SETTINGS,
    exact_state,
    load_model,
    load_ranker,
    model_files,
    ranker_files,
    write_checkpoint,
)
from conformergen.chem import embed, molecule_from_smiles
from conformergen.config import RunConfig, from_mapping
from conformergen.errors import InputError
from conformergen.nn import Backbone
from conformergen.nn.relaxation import CLOSED_BETA
from conformergen.sampling import SamplingJob, SamplingSettings, equivariance_error

#: Propranolol: what the equivariance of a model is measured on.
_EXAMPLE: Final = "CC(C)NC[C@H](O)COc1cccc2ccccc12"


def export(run: str, out: Path, *, exact: bool, name: str | None = None, ranker: Path | None = None) -> dict[str, Any]:
    """Write weights, settings and digests of a run's averaged network, and of a ``train-ranker`` run beside it.

    Raises:
        InputError: When the folder exists, or an exact export would drop an open branch.
    """
    if out.exists():
        raise InputError(f"{out} exists already")
    model = load_model(run)
    config = from_mapping(RunConfig, model.settings["config"])
    branches = model.network.branches()
    max_beta = max((b.max_level for b in branches), default=0.0)
    network = model.network
    n_trained = sum(p.numel() for p in network.parameters())
    error = _equivariance_error(network, config)
    if exact and branches:
        if max_beta > CLOSED_BETA:
            raise InputError(
                f"max beta {max_beta:.3g} > {CLOSED_BETA}: fine-tune at beta = 0 first, for example "
                "with --relaxation none --init RUN"
            )
        network = exact_state(network, config.network)
        relaxation = replace(config.network.relaxation, mode="none")
        config = replace(config, network=replace(config.network, relaxation=relaxation))
    kept = ("seeds_mmff94s", "data", "progress", "val_loss")
    extra = {key: model.settings[key] for key in kept if key in model.settings}
    extra |= {
        "name": name or out.name,
        "equivariant": max_beta == 0.0 or exact,
        "trained_with": model.settings["config"]["network"]["relaxation"]["mode"],
    }
    files: dict[str, bytes] = {}
    if ranker is not None:
        record = json.loads((ranker / SETTINGS).read_text())["ranker"]
        record.pop("network")
        files, extra["ranker"] = ranker_files(load_ranker(ranker), **record)
    write_checkpoint(out, files | model_files(network, config, **extra))
    return {
        "max_beta": max_beta,
        "parameters_trained": n_trained,
        "parameters_exported": sum(p.numel() for p in network.parameters()),
        "equivariance_error_trained": error,
        "equivariance_error_exported": _equivariance_error(network, config),
        "equivariant": extra["equivariant"],
        "torch": torch.__version__,
    }


def _equivariance_error(network: Backbone, config: RunConfig) -> float:
    """Of the sampler on two conformers of one drug, Å."""
    molecule = molecule_from_smiles(_EXAMPLE)
    jobs = [
        SamplingJob(molecule=molecule, conformer=i, seed_positions=p) for i, p in enumerate(embed(molecule, 2, seed=0))
    ]
    return equivariance_error(network, config.diffusion, jobs, SamplingSettings(), seed=0)
