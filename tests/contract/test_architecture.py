"""Rules of the layout that the import contracts do not express; docs/architecture.md explains them."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "conformergen"
MODULES = sorted(PACKAGE.rglob("*.py"))
#: Rooms from the top, as in the import contract.
LAYERS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]["layers"]
#: Rooms whose functions make the inputs of tests in rooms below: molecules, batches, settings, shipped weights.
INPUT_ROOMS = {"chem", "datasets", "config", "checkpoint"}
#: Largest file, and largest file of a command, in lines.
LONGEST, LONGEST_COMMAND = 400, 200
#: Room and the files in it that are no plug-ins.
PLUGIN_ROOMS = {
    "io/formats": {"interface.py", "pyg.py"},
    "datasets/pairing": {"interface.py"},
    "refinement": {"interface.py", "engines.py", "xtb.py"},
    "nn/relaxation": {"interface.py", "branch.py", "probe.py", "projection.py"},
}
#: Words that the project no longer uses, as parts of identifiers, with those files where one is a word of another
#: subject: the relaxed branch of the network has levels and holds its own terms.
FORMER_WORDS = {
    **dict.fromkeys(
        "settle settled emitted apart seeder seeded rung rungs finalists suspicious alone plain bag zygote turned "
        "turning distinct slack held".split(),
        (),
    ),
    "rotors": ("io/aliases.py", "evaluation/report.py"),  # read files of version 0.1
    "caution": ("io/aliases.py",),
    "books": ("reference/units.py",),
    "rotor": ("reference/units.py", "io/aliases.py"),
    "ladder": ("reference/",),  # of metadynamics settings
    "sides": ("torsion/", "training/torsion"),  # of a bond
}
#: Parts of identifiers that contain such a word and are standard terms.
STANDARD_TERMS = ("held_out", "HeldOut")
#: Whole identifiers that have another name now.
FORMER_NAMES = {
    "Hold", "HeldTorsions", "TorsionSettings", "Rotors", "Filling", "Seeded", "prepare_seeds", "RUNGS", "_LAST",
    "_Books",
    "n_rotors", "turning_bonds", "torsion_quartets", "in_one_order", "makers", "_twice", "look", "_Records", "_shares",
    "_projected", "_updated", "_normed", "following", "raised", "say", "exit_by", "different", "fill",
}  # fmt: skip
#: Options of earlier versions, which still work and are hidden.
FORMER_OPTIONS = {"--seeds", "--steps", "--no-seeds", "--level"}


def _test_file(module):
    """Where the tests of a module are."""
    path = module.relative_to(PACKAGE)
    if path.parts[0] == "commands":
        return ROOT / "tests" / path.parent / f"test_{path.name}"
    return ROOT / "tests" / "unit" / path.parent / f"test_{path.name}"


def _layer(room):
    return next(i for i, names in enumerate(LAYERS) if room in [name.strip() for name in names.split("|")])


def _imported_rooms(path):
    """Rooms of the package that a file imports at any place."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        found |= {name.split(".")[1] for name in names if name.startswith("conformergen.")}
    return found


def _identifiers(path):
    """Every name that a file defines or uses, and every option that it declares."""
    names, options = set(), set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Name):
            names.add(node.id)
        elif isinstance(node, ast.Attribute):
            names.add(node.attr)
        elif isinstance(node, ast.arg | ast.keyword) and node.arg:
            names.add(node.arg)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and re.fullmatch("--[a-z-]+", node.value):
            options.add(node.value)
    return names, options


@pytest.mark.parametrize("room", PLUGIN_ROOMS)
def test_every_plugin_file_is_listed(room):
    listing = (PACKAGE / room / "__init__.py").read_text()
    for path in (PACKAGE / room).glob("*.py"):
        if path.name not in PLUGIN_ROOMS[room] | {"__init__.py"}:
            assert f"{path.stem}." in listing or f".{path.stem} import" in listing, path


def test_every_module_has_its_test_file():
    missing = [m for m in MODULES if not m.name.startswith("__") and not _test_file(m).is_file()]
    assert missing == []


def test_every_test_file_has_its_module():
    expected = {_test_file(m) for m in MODULES} | {ROOT / "tests/unit/records/test_records.py"}
    folders = (ROOT / "tests" / "unit", ROOT / "tests" / "commands")
    assert {p for folder in folders for p in folder.rglob("test_*.py")} - expected == set()


def test_unit_tests_import_their_own_room_and_rooms_below():
    wrong = []
    for path in (ROOT / "tests" / "unit").rglob("test_*.py"):
        parts = path.relative_to(ROOT / "tests" / "unit").parts
        if len(parts) > 1:
            own = _layer(parts[0])
            above = {room for room in _imported_rooms(path) - INPUT_ROOMS if _layer(room) < own}
            wrong += [(path.name, room) for room in above]
    assert wrong == []


def test_files_are_short_enough_to_read():
    lengths = {m: len(m.read_text().splitlines()) for m in MODULES}
    assert [m for m, n in lengths.items() if n > LONGEST] == []
    commands = (PACKAGE / "commands").glob("*.py")
    assert [m for m in commands if lengths[m] > LONGEST_COMMAND] == []


def test_largest_room_is_small():
    lines = {}
    for module in MODULES:
        room = module.relative_to(PACKAGE).parts[0]
        lines[room] = lines.get(room, 0) + len(module.read_text().splitlines())
    assert max(lines.values()) <= 0.15 * sum(lines.values())


def test_nothing_imports_experiments():
    names = {p.stem for p in (ROOT / "experiments").glob("*.py")}
    for folder in ("conformergen", "tests", "benchmarks", "recipes"):
        for path in (ROOT / folder).rglob("*.py"):
            imported = {
                name.split(".")[0]
                for node in ast.walk(ast.parse(path.read_text()))
                if isinstance(node, ast.Import | ast.ImportFrom)
                for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names])
            }
            assert not imported & (names | {"experiments"}), path


@pytest.mark.parametrize("module", MODULES, ids=lambda m: m.relative_to(PACKAGE).as_posix())
def test_former_words_do_not_come_back(module):
    path = module.relative_to(PACKAGE).as_posix()
    names, options = _identifiers(module)
    if path != "generation/api.py":  # accepts the former names of arguments
        for term in STANDARD_TERMS:
            names = {name.replace(term, "") for name in names}
        words = {word for name in names for word in re.findall("[a-z]+", re.sub("([A-Z])", r"_\1", name).lower())}
        assert [w for w in words & FORMER_WORDS.keys() if not path.startswith(FORMER_WORDS[w])] == []
        assert names & FORMER_NAMES == set()
    if not path.startswith("cli/train"):  # there, steps are optimiser steps
        source = module.read_text()
        for option in options & FORMER_OPTIONS:
            declaration = source[source.index(f'"{option}"') :].split("\n", 1)[0] + source.split(f'"{option}"')[1][:200]
            assert "hidden=True" in declaration, option


def test_there_is_one_loop_of_rounds():
    """``generate``, ``train-ranker`` and the benchmark of selection call it; nothing else minimises samples."""
    callers = ("conformergen/generation/stream.py", "conformergen/commands/train_ranker.py", "benchmarks/selection.py")
    for name in callers:
        text = (ROOT / name).read_text()
        assert "run_rounds(" in text
        assert "from conformergen.generation.rounds import" in text
    users = [
        path.relative_to(ROOT).as_posix()
        for folder in ("conformergen", "benchmarks", "recipes")
        for path in (ROOT / folder).rglob("*.py")
        if "minimise_samples" in _identifiers(path)[0]
    ]
    assert sorted(users) == ["conformergen/generation/rounds.py", "conformergen/generation/samples.py"]


def test_workers_import_no_torch():
    code = "import sys, conformergen.datasets.prepare, conformergen.datasets.pairing, conformergen.reference.search\n"
    code += "import conformergen.generation.starts, conformergen.generation.finish\n"
    subprocess.run([sys.executable, "-c", code + "assert 'torch' not in sys.modules"], check=True)
