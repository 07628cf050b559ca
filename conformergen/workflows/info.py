"""The ``info`` command: what a shard folder or checkpoint holds."""

from pathlib import Path
from typing import Any

from conformergen.datasets.shards import MANIFEST, read_manifest


def describe(path: str) -> dict[str, Any]:
    """Facts about a shard folder, checkpoint, run or shipped model.

    Raises:
        InputError: When it is none of these.
        DataError: When it is damaged.
    """
    if (Path(path) / MANIFEST).is_file():
        return _shards(Path(path))
    return _checkpoint(path)


def _shards(folder: Path) -> dict[str, Any]:
    manifest = read_manifest(folder)
    shards = manifest["shards"]
    splits = {s: sum(line["splits"][s] for line in shards) for s in ("train", "val", "test")}
    return {
        "kind": "shards",
        "requested": manifest["requested"],
        "molecules": manifest["molecules"],
        "failed": manifest["failed"],
        "conformers": manifest["conformers"],
        "dropped conformers": manifest["dropped"],
        "splits": splits,
        "shards": len(shards),
        "largest molecule": max((line["largest"] for line in shards), default=0),
        "bytes": sum(line["bytes"] for line in shards),
        "configuration": manifest["configuration"],
    }


def _checkpoint(path: str) -> dict[str, Any]:
    from conformergen.checkpoint import load_model

    model = load_model(path)
    settings = model.settings
    branches = model.network.branches()
    ranker = sum(p.numel() for p in model.ranker.parameters()) if model.ranker else 0
    return {
        "kind": "checkpoint",
        "name": model.name,
        "program": settings["program"],
        "torch": settings["torch"],
        "sha256": model.digest,
        "parameters": sum(p.numel() for p in model.network.parameters()),
        "network": settings["config"]["network"],
        "diffusion": settings["config"]["diffusion"],
        "seed conformers": "torsion search, MMFF94s" if model.seeds_mmff94s else "ETKDGv3",
        "ranker parameters": ranker,
        "progress": settings.get("progress"),
        "validation loss": settings.get("val_loss"),
        "data": settings.get("data"),
        "betas": {
            f"layer {i} {name}": round(beta, 6)
            for i, branch in enumerate(branches)
            for name, beta in zip(branch.names, branch.beta.tolist(), strict=True)
        }
        or "none: exactly equivariant",
    }
