"""Tests of ``conformergen.geometry.quasi_newton``."""

import numpy as np
import pytest

from conformergen.geometry.quasi_newton import minimise, spring_compliance


def test_quasi_newton_finds_the_minimum_of_a_spring_network():
    rng = np.random.default_rng(0)
    rest = rng.normal(size=(12, 3)) * 2.0
    hops = np.minimum(np.abs(np.arange(12)[:, None] - np.arange(12)), 15).astype(np.uint8)
    lengths = np.linalg.norm(rest[:, None] - rest, axis=-1)
    stiff = 500.0 / (1.0 + hops) ** 3 * (hops > 0)
    calls = []

    def parts(flat):
        x = np.reshape(flat, (12, 3))
        arms = x[:, None] - x
        far = np.sqrt((arms**2).sum(-1)) + np.eye(12)
        return arms, far, far - np.eye(12) - lengths

    def energy(flat):
        return float(0.25 * (stiff * parts(flat)[2] ** 2).sum())

    def gradient(flat):
        calls.append(flat)
        arms, far, off = parts(flat)
        return tuple(((stiff * off / far)[..., None] * arms).sum(1).ravel())

    start = rest + 0.2 * rng.normal(size=rest.shape)
    found, reached = minimise(gradient, start, hops, max_steps=200)
    assert reached
    assert energy(found.ravel().tolist()) < 1e-2 < 0.01 * energy(start.ravel().tolist())
    assert len(calls) < 60
    assert minimise(gradient, start, hops, max_steps=1)[1] is False

    def broken(flat):
        return gradient(flat) if flat == start.ravel().tolist() else (np.nan,) * 36

    stayed, reached = minimise(broken, start, hops, max_steps=9)
    assert not reached
    np.testing.assert_array_equal(stayed, start)


def test_springs_are_a_hessian():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(7, 3))
    hops = np.abs(np.arange(7)[:, None] - np.arange(7)).astype(np.uint8)
    lower = np.tril(spring_compliance(x, hops))
    inverse = lower + np.tril(lower, -1).T
    values = np.linalg.eigvalsh(np.linalg.inv(inverse))
    assert values.min() == pytest.approx(5.0, rel=1e-3)  # moving all atoms together meets the floor alone
    assert values.max() > 700.0
