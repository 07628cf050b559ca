"""conformergen: 3D conformers of molecules.

Everything of the Python API is loaded on first use, so that importing the package
(and ``conformergen --help``) does not import torch.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from conformergen.checkpoint import load_model as load_model
    from conformergen.evaluation.molecule import rmsd_matrix as rmsd_matrix
    from conformergen.workflows.evaluate import evaluate as evaluate
    from conformergen.workflows.generate import ConformerGenerator as ConformerGenerator
    from conformergen.workflows.generate import generate as generate
    from conformergen.workflows.view import view as view

_API = {
    "ConformerGenerator": "conformergen.workflows.generate",
    "generate": "conformergen.workflows.generate",
    "evaluate": "conformergen.workflows.evaluate",
    "load_model": "conformergen.checkpoint",
    "rmsd_matrix": "conformergen.evaluation.molecule",
    "view": "conformergen.workflows.view",
}

__all__ = ["ConformerGenerator", "__version__", "evaluate", "generate", "load_model", "rmsd_matrix", "view"]


def __getattr__(name: str) -> Any:
    """Load one function of the Python API on first use (PEP 562)."""
    if name in _API:
        from importlib import import_module

        return getattr(import_module(_API[name]), name)
    raise AttributeError(f"module 'conformergen' has no attribute {name!r}")
