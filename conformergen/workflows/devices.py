"""Where tensors live, and how many threads work on them."""

import os

import torch

from conformergen.errors import InputError


def resolve_device(name: str) -> torch.device:
    """``auto`` takes CUDA where there is one.

    Raises:
        InputError: For an unknown name, or ``cuda`` without a CUDA device.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise InputError(f"--device {name!r} is not one of auto, cpu, cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: this machine has no CUDA device that torch can use")
    use_cuda = name == "cuda" or (name == "auto" and torch.cuda.is_available())
    return torch.device("cuda" if use_cuda else "cpu")


def limit_threads() -> None:
    """One torch thread unless OMP_NUM_THREADS says otherwise: a second one spins on a busy machine."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
