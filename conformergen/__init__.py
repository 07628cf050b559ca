"""conformergen: 3D conformers of molecules.

Everything of the Python API is loaded on first use, so that importing the package (and ``conformergen --help``) does
not import torch.
"""

from typing import TYPE_CHECKING, Any

from conformergen.version import __version__ as __version__

if TYPE_CHECKING:
    from conformergen.checkpoint.model import load_model as load_model
    from conformergen.commands.evaluate import evaluate as evaluate
    from conformergen.evaluation.scoring import rmsd_matrix as rmsd_matrix
    from conformergen.generation.api import ConformerGenerator as ConformerGenerator
    from conformergen.generation.api import generate as generate
    from conformergen.reports.viewer import view as view

#: Module of each function and class of the API.
_API = {
    "ConformerGenerator": "conformergen.generation.api",
    "generate": "conformergen.generation.api",
    "evaluate": "conformergen.commands.evaluate",
    "load_model": "conformergen.checkpoint.model",
    "rmsd_matrix": "conformergen.evaluation.scoring",
    "view": "conformergen.reports.viewer",
}

__all__ = ["ConformerGenerator", "__version__", "evaluate", "generate", "load_model", "rmsd_matrix", "view"]


def __getattr__(name: str) -> Any:
    """Load a part of the Python API on first use (PEP 562)."""
    if name in _API:
        from importlib import import_module

        return getattr(import_module(_API[name]), name)
    raise AttributeError(f"module 'conformergen' has no attribute {name!r}")
