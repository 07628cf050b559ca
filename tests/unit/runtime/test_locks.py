"""Tests of ``conformergen.runtime.locks``."""

import json
import os

import pytest

from conformergen.errors import LockedError
from conformergen.runtime import locks


def test_lock_is_exclusive_and_names_its_owner(tmp_path):
    lock = tmp_path / "x.lock"
    with locks.exclusive(lock):
        assert json.loads(lock.read_text())["pid"] == os.getpid()
        with pytest.raises(LockedError, match=str(os.getpid())), locks.exclusive(lock):
            pass
        with pytest.raises(LockedError), locks.shared(lock):
            pass
        with locks.claimed(tmp_path / "unit") as mine, locks.claimed(tmp_path / "unit") as again:
            assert mine
            assert not again
    assert list(tmp_path.iterdir()) == []


def test_lock_that_a_dead_owner_left_says_so(tmp_path):
    lock = tmp_path / "x.lock"
    lock.write_text('{"pid": 99999999}')
    with locks.exclusive(lock) as abandoned:
        assert abandoned
    with locks.exclusive(lock) as abandoned:
        assert not abandoned


def test_last_of_those_that_share_packs(tmp_path):
    with locks.output_folder(tmp_path, join=True) as first:
        with locks.output_folder(tmp_path, join=True) as second:
            with pytest.raises(LockedError, match="shares it"), locks.output_folder(tmp_path):
                pass
            assert not second.is_last()
            assert second.previous_run_died
        (tmp_path / "half.tmp-99999999").touch()
        assert first.is_last()
        assert not (tmp_path / "half.tmp-99999999").exists()
    assert list(tmp_path.iterdir()) == []


def test_lock_file_that_vanishes_while_it_is_taken_is_made_again(tmp_path, monkeypatch):
    """The last owner removes it between opening and locking."""
    lock, real, calls = tmp_path / "x.lock", locks.fcntl.flock, []

    def flock(descriptor, kind):
        calls.append(kind)
        if len(calls) == 1:
            lock.unlink()
        real(descriptor, kind)

    monkeypatch.setattr(locks.fcntl, "flock", flock)
    with locks.exclusive(lock):
        assert len(calls) == 2
        assert lock.exists()


def test_only_the_first_of_several_ranks_locks(tmp_path, monkeypatch):
    @locks.exclusive_output
    def locked(first, out):
        return (out / locks.LOCK).exists()

    assert locked(None, tmp_path)
    monkeypatch.setenv("RANK", "1")
    assert not locked(None, tmp_path)
