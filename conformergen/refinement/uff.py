"""UFF minimisation through RDKit (Rappé et al. 1992, doi 10.1021/ja00051a040): elements that MMFF94s does not know."""

from conformergen.chem.forcefield import minimise_uff
from conformergen.records import ConformerSet, Refined
from conformergen.refinement.mmff import refine_in_place


def refine(conformers: ConformerSet, *, max_steps: int) -> Refined:
    """Minimise each conformer; without UFF parameters positions stay and there is no energy."""
    return refine_in_place(conformers, minimise_uff, method="uff", max_steps=max_steps)
