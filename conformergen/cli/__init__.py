"""The command line, one file for each command: parse, call, print. The work is imported inside the commands."""

import os

# Before any command imports torch: on a busy machine a second OpenMP thread spins and slows the first one.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("OMP_NUM_THREADS", "1")

from conformergen.cli import (  # noqa: F401  registers the commands in the order of the help
    bench,
    evaluate,
    export,
    generate,
    info,
    preprocess,
    reference,
    train,
    train_ranker,
    train_torsions,
    view,
)  # isort: skip
from conformergen.cli.app import app

__all__ = ["app"]
