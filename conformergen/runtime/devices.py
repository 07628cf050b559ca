"""Devices, threads and process groups of torch: the only module of ``runtime`` that imports it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from conformergen.errors import InputError


def resolve_device(name: str) -> torch.device:
    """The torch device of a name; ``auto`` takes CUDA where it is available.

    Raises:
        InputError: For an unknown name, or ``cuda`` without a CUDA device.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise InputError(f"{name!r} is not one of auto, cpu, cuda", setting="device")
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("this machine has no CUDA device that torch can use", setting="device")
    use_cuda = name == "cuda" or (name == "auto" and torch.cuda.is_available())
    return torch.device("cuda" if use_cuda else "cpu")


def limit_threads() -> None:
    """Use one torch thread unless OMP_NUM_THREADS says otherwise: on a busy machine a second one only spins."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))


@contextmanager
def process_group(device: torch.device) -> Iterator[torch.device]:
    """Join the processes that ``torchrun`` started, if any, and yield the device of this process."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield device
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield device
    finally:
        torch.distributed.destroy_process_group()
