"""Tests of ``conformergen.version``."""

import re
from pathlib import Path

from conformergen import __version__
from conformergen.version import __version__ as source


def test_version_is_that_of_the_newest_entry_of_the_changelog():
    changelog = (Path(__file__).parents[2] / "CHANGELOG.md").read_text()
    assert __version__ == source
    assert re.search(r"^## (\d+\.\d+\.\d+)", changelog, re.MULTILINE).group(1) == source
