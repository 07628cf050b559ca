"""Rules of the layout that the import contracts do not express."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


#: Room and the files in it that are no plug-ins.
ROOMS = {
    "io/formats": {"interface.py", "pyg.py"},
    "datasets/pairing": {"interface.py"},
    "refinement": {"interface.py", "engines.py", "xtb.py"},
    "nn/relaxation": {"interface.py", "branch.py", "probe.py", "projection.py"},
}


@pytest.mark.parametrize("room", ROOMS)
def test_every_plugin_file_is_listed(room):
    infrastructure = ROOMS[room]
    folder = ROOT / "conformergen" / room
    listing = (folder / "__init__.py").read_text()
    for path in folder.glob("*.py"):
        if path.name not in infrastructure | {"__init__.py"}:
            assert f"{path.stem}." in listing or f".{path.stem} import" in listing, path


def test_workers_import_no_torch():
    code = "import sys, conformergen.datasets.prepare, conformergen.datasets.pairing, conformergen.reference.search\n"
    subprocess.run([sys.executable, "-c", code + "assert 'torch' not in sys.modules"], check=True)
