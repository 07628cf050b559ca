"""The ``export`` command: a model for inference."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import torch

from conformergen.checkpoint.folder import (
    NETWORK_FILES,
    RANKER,
    SETTINGS,
    TORSION_MODEL,
    resolve,
    verify,
    write_checkpoint,
)
from conformergen.checkpoint.model import load_model, model_files, without_branches
from conformergen.chem import embed, molecule_from_smiles
from conformergen.config import RunConfig, from_mapping
from conformergen.errors import InputError
from conformergen.generation.rounds import round_settings
from conformergen.nn import Backbone
from conformergen.nn.relaxation import CLOSED_BETA
from conformergen.sampling import SamplingJob, equivariance_error

#: Propranolol, on which the equivariance of a model is measured.
_EXAMPLE: Final = "CC(C)NC[C@H](O)COc1cccc2ccccc12"
#: Number of its conformers.
_N_EXAMPLES: Final = 2


@dataclass(frozen=True, kw_only=True)
class ExportSummary:
    """What was exported.

    Attributes:
        max_beta: Largest absolute beta of the trained network.
        parameters_trained: Weights of the trained network.
        parameters_exported: Weights of the exported network.
        equivariance_error_trained: Equivariance error (Å) of the sampling that ``generate`` runs, trained network.
        equivariance_error_exported: The same of the exported network.
        equivariant: Whether the exported network is exactly equivariant.
        networks: SHA-256 of each exported network, by its role.
        torch: Version of torch.
    """

    max_beta: float
    parameters_trained: int
    parameters_exported: int
    equivariance_error_trained: float
    equivariance_error_exported: float
    equivariant: bool
    networks: dict[str, str]
    torch: str


def export(
    run: str,
    out: Path,
    *,
    exact: bool,
    name: str | None = None,
    ranker: Path | None = None,
    torsion_model: Path | None = None,
) -> ExportSummary:
    """Write a model folder: the averaged denoiser of a run and, beside it, a ranker and a torsion model.

    A ranker or torsion model that ``run`` already contains is kept where no other is given.

    Args:
        run: Training run or checkpoint.
        out: Folder of the model.
        exact: Drop the relaxed branches, which must be closed.
        name: Name of the model; the name of the folder by default.
        ranker: Folder of a ``train-ranker`` run.
        torsion_model: Folder of a ``train-torsions`` run.

    Raises:
        InputError: When the folder exists, or when an exact export would drop an open branch.
        DataError: When a folder is damaged.
    """
    if out.exists():
        raise InputError(f"{out} exists already")
    model = load_model(run)
    config = from_mapping(RunConfig, model.settings["config"])
    branches = model.network.branches()
    max_beta = max((b.max_level for b in branches), default=0.0)
    network = model.network
    if exact and branches:
        if max_beta > CLOSED_BETA:
            raise InputError(
                f"max beta {max_beta:.3g} > {CLOSED_BETA}: fine-tune at beta = 0 first, for example "
                "with --relaxation none --init RUN"
            )
        network = without_branches(network, config.network)
        relaxation = replace(config.network.relaxation, mode="none")
        config = replace(config, network=replace(config.network, relaxation=relaxation))
    kept = ("starts_mmff94s", "data", "progress", "val_loss")
    extra: dict[str, Any] = {key: model.settings[key] for key in kept if key in model.settings}
    extra |= {
        "name": name or out.name,
        "equivariant": max_beta == 0.0 or exact,
        "trained_with": model.settings["config"]["network"]["relaxation"]["mode"],
    }
    source, files = resolve(run), dict[str, bytes]()
    for file, folder, key in ((RANKER, ranker, "ranker"), (TORSION_MODEL, torsion_model, "torsion_model")):
        folder = folder or source
        if (folder / file).is_file():
            verify(folder, file)
            files[file], extra[key] = (folder / file).read_bytes(), _about(folder, key)
    write_checkpoint(out, files | model_files(network, config, **extra))
    digests = verify(out)
    ranked = RANKER in files
    return ExportSummary(
        max_beta=max_beta,
        parameters_trained=sum(p.numel() for p in model.network.parameters()),
        parameters_exported=sum(p.numel() for p in network.parameters()),
        equivariance_error_trained=_equivariance_error(model.network, config, ranked=ranked),
        equivariance_error_exported=_equivariance_error(network, config, ranked=ranked),
        equivariant=extra["equivariant"],
        networks={role: digests[file] for role, file in NETWORK_FILES.items() if file in digests},
        torch=torch.__version__,
    )


def _about(folder: Path, key: str) -> dict[str, Any]:
    """What the settings of a folder say about one of its networks."""
    about: dict[str, Any] = json.loads((folder / SETTINGS).read_text()).get(key, {})
    return about


def _equivariance_error(network: Backbone, config: RunConfig, *, ranked: bool) -> float:
    """Error in Å, on two conformers of one drug, of the sampling in the final round of ``generate``."""
    molecule = molecule_from_smiles(_EXAMPLE)
    jobs = [
        SamplingJob(molecule=molecule, conformer=i, start_positions=p)
        for i, p in enumerate(embed(molecule, _N_EXAMPLES, seed=0))
    ]
    sampling = round_settings(ranked=ranked).sampling(torch.device("cpu"))
    return equivariance_error(network, config.diffusion, jobs, sampling, seed=0)
