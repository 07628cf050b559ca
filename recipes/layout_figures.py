"""Figures of the layout: sizes of rooms, files and functions, and the path of a molecule from SMILES to SDF.

    python recipes/layout_figures.py

The path lists the files of the package whose functions run while one molecule is generated, in the order of their first
call. A change of room is one between neighbours in this list.
"""

import ast
import itertools
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from rdkit import Chem

import conformergen
from conformergen.generation.output import generate_to
from conformergen.generation.settings import GenerateSettings
from conformergen.io.inputs import InputRecord

PACKAGE = Path(conformergen.__file__).parent
#: Longest function, in lines, that is not counted.
LONG_FUNCTION = 40
LONG_FILE = 400


def functions() -> Iterator[tuple[Path, ast.FunctionDef]]:
    """Every function of the package."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                yield path, node


def body_lines(node: ast.FunctionDef) -> int:
    """Lines of a function without its signature and docstring."""
    body = node.body[1:] if ast.get_docstring(node) and len(node.body) > 1 else node.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1


def path_of_a_molecule() -> tuple[list[str], int]:
    """Files in the order of their first call, and the number of parses."""
    files: list[str] = []
    parses = 0
    real = Chem.MolFromSmiles

    def counting(*arguments, **options):
        nonlocal parses
        parses += 1
        return real(*arguments, **options)

    def profile(frame, event, _):
        name = frame.f_code.co_filename
        if event == "call" and name.startswith(str(PACKAGE)) and frame.f_code.co_name != "<module>":
            relative = str(Path(name).relative_to(PACKAGE))
            if relative not in files:
                files.append(relative)

    record = InputRecord(index=0, smiles="CC(C)NCC(O)COc1ccccc1", name="drug")
    with tempfile.TemporaryDirectory() as folder:
        # Everything is imported before, so that the bodies of modules and classes are not counted.
        generate_to([InputRecord(index=0, smiles="CCO", name="first")], f"{folder}/first.sdf", GenerateSettings(n=1))
        Chem.MolFromSmiles = counting
        sys.setprofile(profile)
        generate_to([record], f"{folder}/a.sdf", GenerateSettings(n=5))
        sys.setprofile(None)
        Chem.MolFromSmiles = real
    return files, parses


def main() -> None:
    lines = {p: len(p.read_text().splitlines()) for p in PACKAGE.rglob("*.py")}
    total = sum(lines.values())
    rooms: dict[str, int] = {}
    for path, n in lines.items():
        room = path.relative_to(PACKAGE).parts[0]
        rooms[room] = rooms.get(room, 0) + n
    largest = max(rooms, key=lambda room: rooms[room])
    tests = sum(len(p.read_text().splitlines()) for p in (PACKAGE.parent / "tests").rglob("*.py"))
    found = list(functions())
    print(f"lines: {total}; largest room: {largest}, {100 * rooms[largest] / total:.1f} %")
    print(f"files over {LONG_FILE} lines: {sum(n > LONG_FILE for n in lines.values())}")
    print(f"functions over {LONG_FUNCTION} lines: {sum(body_lines(node) > LONG_FUNCTION for _, node in found)}")
    exempt = ("io", "config.py", "checkpoint")
    uses = [
        (path, node.name)
        for path, node in found
        if not node.name.startswith("_") and path.relative_to(PACKAGE).parts[0] not in exempt
        for part in [*(a.annotation for a in [*node.args.args, *node.args.kwonlyargs]), node.returns]
        if part is not None and "dict[str, Any]" in ast.unparse(part)
    ]
    print(f"dict[str, Any] in public signatures outside io, config and checkpoint: {len(uses)}")
    for path, name in uses:
        print(f"  {path.relative_to(PACKAGE)} {name}")
    print(f"lines of tests for each line of the package: {tests / total:.2f}")
    files, parses = path_of_a_molecule()
    own = [file.split("/")[0] for file in files]
    changes = sum(a != b for a, b in itertools.pairwise(own))
    print(f"SMILES to SDF: {len(files)} files, {changes} changes of room, {parses} parses")
    print("  " + " ".join(files))


if __name__ == "__main__":
    main()
