"""PoseBusters' checks of a molecule (Buttenschoen, Morris, Deane 2024, doi 10.1039/D3SC04185A), by its own package."""

import logging
from functools import lru_cache
from typing import Any

import numpy as np
from rdkit import Chem

from conformergen.chem import mol_with_conformers
from conformergen.errors import InputError
from conformergen.evaluation.checks.interface import Check, Checked, CheckSettings
from conformergen.evaluation.scoring import Score


@lru_cache(maxsize=1)
def _buster() -> Any:
    from posebusters import PoseBusters

    logging.getLogger("posebusters").setLevel(logging.ERROR)
    return PoseBusters(config="mol")


def needs(settings: CheckSettings) -> None:
    """Refuse early where the package is missing.

    Raises:
        InputError: With the command that installs it.
    """
    del settings
    from importlib.util import find_spec

    if find_spec("posebusters") is None:
        raise InputError("the posebusters check needs pip install 'conformergen[checks]'")


def run(score: Score, settings: CheckSettings) -> Checked:
    """Each check of the ``mol`` configuration, and whether a sample passes all that could be made."""
    aligned = score.aligned
    picked = aligned.samples[settings.spread(len(aligned.samples))]
    mols = [Chem.Mol(mol_with_conformers(aligned.molecule, p[None])) for p in picked]
    table = _buster().bust(mols)
    samples = {}
    for column in table.columns:
        values = table[column].to_numpy(dtype=object)
        samples[column] = np.array([np.nan if v is None or v != v else float(v) for v in values])
    answers = np.array(list(samples.values()))
    return Checked(samples={"all_checks": np.all((answers == 1.0) | np.isnan(answers), axis=0), **samples})


#: Entry of ``CHECKS``.
CHECK = Check(run=run, needs=needs)
