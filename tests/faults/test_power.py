"""F5: the power goes off between two syncs. What had not been synced may be lost, cut, or there in part.

Every sync and rename of a command is recorded with what the file held. Each moment is then replayed with the worst that
a file system may do: contents that were never synced are gone or cut, renames since the last sync of their folder are
there or not, in order. Whatever is visible must be a valid state: absent, or whole.
"""

import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from conformergen.checkpoint.folder import find_checkpoints, write_checkpoint
from conformergen.checkpoint.model import load_model
from conformergen.commands.preprocess import PreprocessSettings, preprocess
from conformergen.io.manifest import MANIFEST
from conformergen.io.shards import read_folder

ROOT = Path(__file__).parent.parent.parent


@dataclass
class _Event:
    """A sync (``target`` is None) or a rename, and what all files held then."""

    path: Path
    target: Path | None
    contents: dict[Path, bytes]


@pytest.fixture
def recorded(tmp_path, monkeypatch):
    """Events below ``tmp_path / 'live'`` while a function runs."""
    live = tmp_path / "live"
    live.mkdir()
    events = []

    def contents():
        return {p.relative_to(live): p.read_bytes() for p in live.rglob("*") if p.is_file()}

    real_sync, real_replace = os.fsync, os.replace

    def sync(descriptor):
        path = Path(os.readlink(f"/proc/self/fd/{descriptor if isinstance(descriptor, int) else descriptor.fileno()}"))
        if path.is_relative_to(live):
            events.append(_Event(path.relative_to(live), None, contents()))
        real_sync(descriptor)

    def replace(source, target):
        if Path(target).is_relative_to(live):
            events.append(_Event(Path(source).relative_to(live), Path(target).relative_to(live), contents()))
        real_replace(source, target)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "replace", replace)
    return live, events


def _moved(path, event):
    """Where a path is after a rename of it or of a folder above it."""
    if event.target is not None and (path == event.path or event.path in path.parents):
        return event.target / path.relative_to(event.path)
    return path


def _states(events):
    """Directory trees that a crash may leave: path to content, at every moment and for every loss."""
    for moment in range(len(events) + 1):
        past = events[:moment]
        renames = [i for i, event in enumerate(past) if event.target is not None]
        # Renames from one on are lost, unless their folder was synced since.
        for first in [*renames, moment]:
            lost = {i for i in renames if i >= first}
            if not any(_is_durable(past, i) for i in lost):
                for damage in ("gone", "empty", "cut"):
                    yield _state(past, lost, damage)


def _state(past, lost, damage):
    durable, current = {}, {}
    for i, event in enumerate(past):
        current = event.contents | current
        if event.target is None:
            durable |= {p: c for p, c in event.contents.items() if p == event.path}
        elif i not in lost:
            durable = {_moved(p, event): c for p, c in durable.items()}
            current = {_moved(p, event): c for p, c in current.items()}
    if damage == "gone":
        return durable
    return {p: c[: len(c) // 2] if damage == "cut" else b"" for p, c in current.items()} | durable


def _is_durable(past, index):
    """Whether the folder of a rename's target was synced after it."""
    folder = past[index].target.parent
    return any(e.target is None and e.path == folder for e in past[index + 1 :])


def _written(folder, state):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for path, content in state.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return folder


def test_shards_after_a_power_loss(recorded, tmp_path):
    live, events = recorded
    settings = PreprocessSettings(split="random", starts=None, max_confs=1, molecules_per_shard=20)
    preprocess([ROOT / "data" / "reference-mini"], live, settings)
    whole = {s.molecule.key: s.positions.tobytes() for s in read_folder(live)}
    assert sum(e.target is not None for e in events) >= 6
    seen = set()
    for state in _states(events):
        folder = _written(tmp_path / "replayed", state)
        if not (folder / MANIFEST).exists():
            continue
        found = {s.molecule.key: s.positions.tobytes() for s in read_folder(folder)}
        assert found.items() <= whole.items()
        seen.add(len(found))
    assert seen == {20, 40, 47}


def test_checkpoints_after_a_power_loss(recorded, tiny_run, tmp_path):
    """A checkpoint that is visible is whole; while one takes the place of another, the older may be out of sight."""
    live, events = recorded
    files = {p.name: p.read_bytes() for p in (tiny_run / "best").iterdir() if p.name != "digest.json"}
    for name in ("ckpt-00000001", "ckpt-00000002", "best", "best"):
        write_checkpoint(live / name, files)
    assert sum(e.target is not None for e in events) == 5
    seen, whole = set(), set()
    for state in _states(events):
        folder = _written(tmp_path / "replayed", state)
        visible = [*find_checkpoints(folder), *(p for p in [folder / "best"] if p.exists())]
        for checkpoint in visible:
            content = frozenset((p.name, hashlib.sha256(p.read_bytes()).digest()) for p in checkpoint.iterdir())
            if content not in whole:  # most moments leave what an earlier one left
                assert load_model(checkpoint).digests
                whole.add(content)
        seen.add(len(visible))
    assert seen == {0, 1, 2, 3}
