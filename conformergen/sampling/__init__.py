"""Samplers, and the queue of (molecule, conformer) jobs they work through."""

from conformergen.sampling.batches import (
    SamplingJob,
    SamplingSettings,
    equivariance_error,
    plan_batches,
    sample_batch,
    sample_in_memory,
)
from conformergen.sampling.samplers import SAMPLERS, Sampler

__all__ = [
    "SAMPLERS",
    "Sampler",
    "SamplingJob",
    "SamplingSettings",
    "equivariance_error",
    "plan_batches",
    "sample_batch",
    "sample_in_memory",
]
