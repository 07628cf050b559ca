"""Tests of ``conformergen.runtime.devices``."""

import os

import pytest
import torch

from conformergen.errors import InputError
from conformergen.runtime.devices import limit_threads, process_group, resolve_device


def test_devices_are_resolved_or_refused():
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device("auto").type in ("cpu", "cuda")
    with pytest.raises(InputError):
        resolve_device("abacus")


def test_one_process_needs_no_group():
    with process_group(torch.device("cpu")) as device:
        assert device == torch.device("cpu")
        assert not torch.distributed.is_initialized()


def test_threads_follow_the_environment(monkeypatch):
    before = torch.get_num_threads()
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    limit_threads()
    assert torch.get_num_threads() == 1
    torch.set_num_threads(before)
    assert os.environ["OMP_NUM_THREADS"] == "1"
