"""The ``xtb`` program: GFN2-xTB and GFN-FF optimisation, single points and metadynamics.

GFN2-xTB: Bannwarth, Ehlert, Grimme 2019, doi 10.1021/acs.jctc.8b01176. GFN-FF: Spicher, Grimme 2020,
doi 10.1002/anie.202004239. RMSD metadynamics: Grimme 2019, doi 10.1021/acs.jctc.9b00143.
"""

import errno
import os
import re
import shutil
import signal
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from jaxtyping import Float64, UInt8

from conformergen.chem import ELEMENT_SYMBOLS

#: Arguments of the program for each method.
_METHOD: Final = {"gfn2-xtb": ["--gfn", "2"], "gfn-ff": ["--gfnff"]}
#: Energy in the title of a frame, hartree.
_ENERGY: Final = re.compile(r"energy:?\s+(-?\d+\.\d+)")
#: HOMO-LUMO gap, eV.
_GAP: Final = re.compile(r"HOMO-LUMO GAP\s+(-?\d+\.\d+)")
#: Last column of the line "full" in the table of the dipole.
_DIPOLE: Final = re.compile(r"molecular dipole:.*?full:(?:\s+-?\d+\.\d+){3}\s+(\d+\.\d+)", re.DOTALL)
#: Bytes of scratch space below which a run may have been cut short.
_ROOM: Final = 1 << 20
#: Energy of a single point, hartree.
_TOTAL: Final = re.compile(r"TOTAL ENERGY\s+(-?\d+\.\d+)")


@dataclass(frozen=True, kw_only=True)
class Metadynamics:
    """One RMSD-metadynamics run on the GFN-FF surface.

    Attributes:
        k_push: Strength, hartree per atom.
        alpha: Width of the Gaussians, bohr^-2.
        picoseconds: Length.
        snapshot_fs: Interval of the snapshots returned.
    """

    k_push: float
    alpha: float
    picoseconds: float = 8.0
    snapshot_fs: float = 200.0


def available() -> bool:
    """Whether the ``xtb`` program is on the PATH."""
    return shutil.which("xtb") is not None


def _run(arguments: list[str], folder: Path, *, timeout: float) -> str | None:
    """Standard output of one xtb process, or None when it failed or ran out of time.

    Raises:
        OSError: Where there is no room for its files: what it leaves then looks like a failed or a shorter run.
    """
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OMP_STACKSIZE": "1G"}
    try:
        done = subprocess.run(
            ["xtb", *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=timeout,
            errors="replace",
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return None
    if done.returncode == -signal.SIGXFSZ or shutil.disk_usage(folder).free < _ROOM:
        raise OSError(errno.ENOSPC, "no room for the files of xtb", str(folder))
    return done.stdout if done.returncode == 0 else None


def _scratch() -> "tempfile.TemporaryDirectory[str]":
    """Scratch in memory where the system has it: an xtb run writes a dozen small files."""
    memory = Path("/dev/shm")
    return tempfile.TemporaryDirectory(prefix="conformergen-", dir=memory if os.access(memory, os.W_OK) else None)


def _write_xyz(path: Path, numbers: UInt8[np.ndarray, " atom"], positions: Float64[np.ndarray, "atom 3"]) -> None:
    lines = [str(len(numbers)), ""]
    lines += [f"{ELEMENT_SYMBOLS[z]} {x:.8f} {y:.8f} {w:.8f}" for z, (x, y, w) in zip(numbers, positions, strict=True)]
    path.write_text("\n".join(lines) + "\n")


def read_xyz_frames(text: str, n_atoms: int) -> tuple[Float64[np.ndarray, "frame atom 3"], list[str]]:
    """Frames and comment lines of a multi-frame XYZ text; a torn last frame is dropped."""
    lines = text.splitlines()
    size = n_atoms + 2
    frames, comments = [], []
    for begin in range(0, len(lines) - size + 1, size):
        rows = [line.split()[1:4] for line in lines[begin + 2 : begin + size]]
        frames.append(np.array(rows, dtype=np.float64))
        comments.append(lines[begin + 1])
    return np.array(frames).reshape(-1, n_atoms, 3), comments


def optimise(
    numbers: UInt8[np.ndarray, " atom"],
    positions: Float64[np.ndarray, "atom 3"],
    *,
    charge: int,
    method: str,
    opt_level: str = "normal",
    timeout: float = 600.0,
) -> tuple[Float64[np.ndarray, "atom 3"], float] | None:
    """Optimised positions (Å) and energy (hartree), or None when xtb failed.

    An optimisation that stops short leaves its last frame; it is returned, and the caller's bond-graph
    and duplicate checks decide about it.
    """
    with _scratch() as name:
        folder = Path(name)
        _write_xyz(folder / "in.xyz", numbers, positions)
        arguments = ["in.xyz", *_METHOD[method], "--opt", opt_level, "--chrg", str(charge), "--norestart"]
        _run(arguments, folder, timeout=timeout)
        for result in ("xtbopt.xyz", "xtblast.xyz", "xtbopt.log"):
            if (folder / result).exists():
                frames, comments = read_xyz_frames((folder / result).read_text(errors="replace"), len(numbers))
                energy = _ENERGY.search(comments[-1]) if comments else None
                if energy and np.isfinite(frames[-1]).all():
                    return frames[-1], float(energy.group(1))
    return None


def single_point(
    numbers: UInt8[np.ndarray, " atom"],
    positions: Float64[np.ndarray, "atom 3"],
    *,
    charge: int,
    method: str = "gfn2-xtb",
    timeout: float = 300.0,
) -> float | None:
    """Energy in hartree, or None when xtb failed."""
    with _scratch() as name:
        folder = Path(name)
        _write_xyz(folder / "in.xyz", numbers, positions)
        output = _run(["in.xyz", *_METHOD[method], "--chrg", str(charge), "--norestart"], folder, timeout=timeout)
    energy = _TOTAL.search(output) if output else None
    return float(energy.group(1)) if energy else None


def properties(
    numbers: UInt8[np.ndarray, " atom"],
    positions: Float64[np.ndarray, "atom 3"],
    *,
    charge: int,
    timeout: float = 300.0,
) -> tuple[float, float, float] | None:
    """GFN2-xTB energy (hartree), orbital gap (eV) and dipole (D), or None when xtb failed."""
    with _scratch() as name:
        folder = Path(name)
        _write_xyz(folder / "in.xyz", numbers, positions)
        output = _run(["in.xyz", *_METHOD["gfn2-xtb"], "--chrg", str(charge), "--norestart"], folder, timeout=timeout)
    if output is None:
        return None
    found = [pattern.findall(output) for pattern in (_TOTAL, _GAP, _DIPOLE)]
    if not all(found):
        return None
    energy, gap, dipole = (float(values[-1]) for values in found)
    return energy, gap, dipole


def metadynamics(
    numbers: UInt8[np.ndarray, " atom"],
    positions: Float64[np.ndarray, "atom 3"],
    *,
    charge: int,
    run: Metadynamics,
    timeout: float = 1800.0,
) -> Float64[np.ndarray, "frame atom 3"]:
    """Snapshots of one GFN-FF metadynamics run at 300 K, hydrogen mass 4, 2 fs steps; Å.

    Velocities start from one fixed seed: the same start gives the same frames.
    """
    with _scratch() as name:
        folder = Path(name)
        _write_xyz(folder / "in.xyz", numbers, positions)
        (folder / "md.inp").write_text(
            f"$samerand\n$md\n time={run.picoseconds}\n step=2.0\n temp=300\n hmass=4\n shake=2\n"
            f" dump={run.snapshot_fs}\n velo=false\n nvt=true\n$metadyn\n save=100\n"
            f" kpush={run.k_push * len(numbers):.6f}\n"
            f" alp={run.alpha}\n$end\n"
        )
        _run(
            ["in.xyz", "--gfnff", "--md", "--input", "md.inp", "--chrg", str(charge), "--norestart"],
            folder,
            timeout=timeout,
        )
        trajectory = folder / "xtb.trj"
        if not trajectory.exists():
            return np.zeros((0, len(numbers), 3))
        frames, _ = read_xyz_frames(trajectory.read_text(errors="replace"), len(numbers))
    return frames
