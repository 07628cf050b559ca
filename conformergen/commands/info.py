"""The ``info`` command: what a shard folder or checkpoint contains."""

from pathlib import Path

from conformergen.io.manifest import MANIFEST, read_manifest
from conformergen.io.shards import SPLITS


def describe(path: str) -> dict[str, object]:
    """Facts about a shard folder, checkpoint, training run or shipped model.

    Raises:
        InputError: When it is none of these.
        DataError: When it is damaged.
    """
    if (Path(path) / MANIFEST).is_file():
        return _describe_shards(Path(path))
    return _describe_checkpoint(path)


def _describe_shards(folder: Path) -> dict[str, object]:
    manifest = read_manifest(folder)
    return {
        "kind": "shards",
        "requested": manifest.requested,
        "molecules": manifest.molecules,
        "failed": len(manifest.failures),
        "conformers": manifest.conformers,
        "dropped conformers": manifest.dropped,
        "splits": {s: sum(line.splits.get(s, 0) for line in manifest.shards) for s in SPLITS},
        "shards": len(manifest.shards),
        "largest molecule": max((line.largest for line in manifest.shards), default=0),
        "bytes": sum(line.bytes for line in manifest.shards),
        "configuration": dict(manifest.configuration),
    }


def _describe_checkpoint(path: str) -> dict[str, object]:
    from conformergen.checkpoint.model import load_model

    model = load_model(path)
    settings = model.settings
    ranker = sum(p.numel() for p in model.ranker.parameters()) if model.ranker else 0
    weights = model.torsion_model.load().weights
    betas = {
        f"layer {i} {name}": round(beta, 6)
        for i, branch in enumerate(model.network.branches())
        for name, beta in zip(branch.names, branch.beta.tolist(), strict=True)
    }
    return {
        "kind": "checkpoint",
        "name": model.name,
        "program": settings["program"],
        "torch": settings["torch"],
        "sha256": model.digests["denoiser"],
        "ranker sha256": model.digests.get("ranker"),
        "torsion model sha256": model.digests["torsion_model"],
        "parameters": sum(p.numel() for p in model.network.parameters()),
        "ranker parameters": ranker,
        "torsion model parameters": sum(w.size for w in weights.values()),
        "network": settings["config"]["network"],
        "diffusion": settings["config"]["diffusion"],
        "start structures": "torsion search, MMFF94s" if model.starts_mmff94s else "ETKDGv3",
        "progress": settings.get("progress"),
        "validation loss": settings.get("val_loss"),
        "data": settings.get("data"),
        "betas": betas or "none: exactly equivariant",
    }
