"""GFN-FF optimisation by the ``xtb`` program."""

from conformergen.records import ConformerSet, Refined
from conformergen.refinement.engines import ENGINES, choose_engine, optimise_all


def refine(conformers: ConformerSet, *, max_steps: int) -> Refined:
    """Optimise each conformer at level normal; one that xtb cannot optimise keeps its positions.

    Raises:
        InputError: Where ``xtb`` is not installed.
    """
    del max_steps  # xtb stops by its own criteria
    engine = ENGINES[choose_engine("xtb")](conformers.molecule)
    return optimise_all(conformers, engine.forcefield, "gfn-ff")
