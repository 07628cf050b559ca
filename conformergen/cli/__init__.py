"""The command line: parse, call a workflow, print. Workflows are imported inside the commands."""

import os

# Before torch is imported by any command: a second OpenMP thread on a busy machine spins and slows the first.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("OMP_NUM_THREADS", "1")

from conformergen.cli import conformers, data, model  # noqa: F401  registers the commands
from conformergen.cli.app import app

__all__ = ["app"]
