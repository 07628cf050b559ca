"""The ``generate`` command and functions: SMILES in, verified conformers out, nothing lost."""

from conformergen.workflows.generate.api import ConformerGenerator, generate
from conformergen.workflows.generate.output import generate_to
from conformergen.workflows.generate.settings import METHODS, GenerateSettings, GenerateSummary
from conformergen.workflows.generate.stream import generate_stream

__all__ = [
    "METHODS",
    "ConformerGenerator",
    "GenerateSettings",
    "GenerateSummary",
    "generate",
    "generate_stream",
    "generate_to",
]
