"""Tests of ``conformergen.runtime.files``."""

import os

import pytest

from conformergen.runtime import files


def test_file_that_fails_verification_leaves_the_old_one(tmp_path):
    path = tmp_path / "a.json"
    files.commit_bytes(path, b"old")

    def verify(temporary):
        raise ValueError(temporary.read_text())

    with pytest.raises(ValueError, match="new"):
        files.commit_bytes(path, b"new", verify=verify)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_fault_point_kills_at_its_count_only(tmp_path, monkeypatch):
    killed = []
    monkeypatch.setattr(files.os, "kill", lambda pid, number: killed.append((pid, number)))
    monkeypatch.setattr(files, "_crossed", {})
    monkeypatch.setenv(files.FAULT_VARIABLE, "here:2")
    for name in ("here", "there", "here", "here"):
        files.fault_point(name)
    assert killed == [(os.getpid(), files.signal.SIGKILL)]


def test_sweep_spares_what_lives(tmp_path, monkeypatch):
    def kill(pid, number):
        assert number == 0
        if pid == 1:
            raise PermissionError  # somebody else's process, but alive
        if pid == 2:
            raise ProcessLookupError

    monkeypatch.setattr(files.os, "kill", kill)
    for name in ("a.tmp-1", "a.tmp-2", "b.tmp-2", "a.tmp-x", "a", "a.claim", "b.claim"):
        (tmp_path / name).touch()
    (tmp_path / "a-folder.tmp-2").mkdir()
    files.sweep(tmp_path, prefix="a")
    assert {p.name for p in tmp_path.iterdir()} == {"a.tmp-1", "b.tmp-2", "a.tmp-x", "a", "b.claim"}
