"""Functions that several tests share."""

from conformergen.generation.stream import Pipeline
from conformergen.io.inputs import InputRecord


def input_records(*smiles):
    """One input record for each SMILES, named m0, m1 and so on."""
    return [InputRecord(index=i, smiles=s, name=f"m{i}") for i, s in enumerate(smiles)]


def run_pipeline(settings, records, **options):
    """All conformers that a pipeline makes of some records, and the counts at its end."""
    blocks = list(Pipeline(settings).blocks(records, **options))
    return [conformers for block in blocks for conformers in block.conformers], blocks[-1].summary
