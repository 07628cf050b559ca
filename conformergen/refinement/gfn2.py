"""GFN2-xTB optimisation, by the ``xtb`` program or ``tblite``."""

from conformergen.records import ConformerSet, Refined
from conformergen.refinement.engines import ENGINES, choose_engine, optimise_all


def refine(conformers: ConformerSet, *, max_steps: int) -> Refined:
    """Optimise each conformer at level normal; one that cannot be optimised keeps its positions.

    Raises:
        InputError: Where neither engine is installed.
    """
    del max_steps  # the optimisers stop by their own criteria
    engine = ENGINES[choose_engine()](conformers.molecule)
    return optimise_all(conformers, engine.optimise, "gfn2-xtb")
