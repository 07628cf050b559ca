"""Tests of ``conformergen.runtime.cpu_time``."""

import subprocess
import sys

from conformergen.runtime.cpu_time import cpu_seconds


def test_children_that_have_ended_count():
    before = cpu_seconds()
    subprocess.run([sys.executable, "-c", "sum(range(3_000_000))"], check=True)
    assert cpu_seconds() - before > 0.02
