"""Many lines with garbage among them: exact counts, order kept, memory flat, throughput beside clean input.

    python benchmarks/many_lines.py LISTS -o runs/many [--lines 100000] [--method etkdg] [-n 1] [--longest 30]

Lines are those of all lists of a folder with SMILES of at most ``--longest`` characters, over and over; in the second
run every 100th is garbage of eight kinds. Memory is that of the whole process tree of the second run.
"""

import argparse
import itertools
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

from any_input import lines, organic
from rdkit import RDLogger

GARBAGE = (
    b"C1CC bad",
    b"c1cccc1 bad",
    b"\xff\xfe\x00 bad",
    b"hello world",
    b"*CC bad",
    b"[Na+].[Cl-] bad",
    b"CX bad",
    b")( bad",
)


def resident(pid: int) -> int:
    """Resident memory of a process and its children, kB."""
    total = 0
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                status = (entry / "status").read_text()
            except OSError:
                continue
            fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
            if int(entry.name) == pid or int(fields["PPid"]) == pid:
                total += int(fields.get("VmRSS", "0 kB").split()[0])
    return total


def run(
    source: Path, out: Path, options: argparse.Namespace, n_lines: int
) -> tuple[dict, float, list[tuple[int, int]]]:
    """Summary, CPU seconds, and (lines done, kB) now and then."""
    command = [sys.executable, "-m", "conformergen", "generate", str(source), "-o", str(out), "-n", str(options.n)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with (out.with_suffix(".log")).open("w+") as log:
        process = subprocess.Popen([*command, "--method", options.method], stderr=log)
        memory, journal = [], Path(f"{out}.progress")
        while process.poll() is None:
            time.sleep(1.0)
            try:
                done = json.loads(journal.read_text())["progress"]["summary"]["requested"]
            except (OSError, ValueError):
                continue
            memory.append((done, resident(process.pid)))
        log.seek(0)
        summary = json.loads(log.read().strip().splitlines()[-1])
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert process.returncode == (1 if summary["failed"] else 0)
    assert summary["requested"] == n_lines
    return summary, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, memory


def main() -> None:
    RDLogger.DisableLog("rdApp.*")  # type: ignore[attr-defined]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lists", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--lines", type=int, default=100_000)
    parser.add_argument("--clean", type=int, default=0, help="lines of the clean run; as many by default")
    parser.add_argument("--method", default="etkdg")
    parser.add_argument("-n", type=int, default=1)
    parser.add_argument("--longest", type=int, default=30)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    short = [
        x.split()[0] for x in lines(options.lists) if len(x.split()[0]) <= options.longest and organic(x.split()[0])
    ]
    drawn = [f"{s} m{i}".encode() for i, s in enumerate(itertools.islice(itertools.cycle(short), options.lines))]
    garbage = set(range(50, options.lines, 100))
    dirty = [GARBAGE[i // 100 % len(GARBAGE)] if i in garbage else line for i, line in enumerate(drawn)]
    n_clean = options.clean or options.lines
    (options.out / "clean.smi").write_bytes(b"\n".join(drawn[:n_clean]) + b"\n")
    (options.out / "dirty.smi").write_bytes(b"\n".join(dirty) + b"\n")
    clean, clean_cpu, _ = run(options.out / "clean.smi", options.out / "clean.sdf", options, n_clean)
    summary, cpu, memory = run(options.out / "dirty.smi", options.out / "dirty.sdf", options, options.lines)
    failed = [json.loads(x)["index"] for x in (options.out / "dirty.sdf.failures.jsonl").read_text().splitlines()]
    titles = []
    with (options.out / "dirty.sdf").open("rb") as file:
        new = True
        for line in file:
            if new:
                titles.append(int(line[1:]))
            new = line == b"$$$$\n"
    order = list(dict.fromkeys(titles))
    tenth = next(kb for done, kb in memory if done >= options.lines / 10)
    print(json.dumps({"clean": clean, "dirty": summary}))
    print(
        "garbage lines that failed:",
        len(garbage & set(failed)),
        "of",
        len(garbage),
        "; other failures:",
        len(set(failed) - garbage),
    )
    print(
        "order kept:",
        order == sorted(order)
        and set(order) | set(failed) == set(range(options.lines))
        and not set(order) & set(failed),
    )
    last, most = memory[-1][1], max(kb for _, kb in memory)
    print(f"memory, MB: {tenth / 1024:.0f} at a tenth, {last / 1024:.0f} at the end, most {most / 1024:.0f}")
    rates = n_clean / clean_cpu, (options.lines - len(garbage)) / cpu
    print("good lines per CPU s: clean {:.1f}, with garbage {:.1f}: {:.3f}".format(*rates, rates[1] / rates[0]))
    print(f"output {os.path.getsize(options.out / 'dirty.sdf') / 2**20:.0f} MB")


if __name__ == "__main__":
    main()
