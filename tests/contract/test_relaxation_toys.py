"""RECM and other modes on problems whose symmetry gap is known."""

import math

import pytest
import relaxation_toys as toys
import torch

FAST = {"steps": 600, "rate": 1e-2}


DEEP = {"steps": 1000, "rate": 1e-2}


STRETCH = torch.diag(torch.tensor([1.6, 1.0, 0.4]))


@pytest.mark.parametrize("b", [0.0, 0.05, 0.1, 0.2, 0.4])
def test_state_is_the_exact_gap(b):
    """W1(P, P') = |b| here, and the state fluctuates about it as the proposition says."""
    h, spread = toys.exact_gap(b)
    assert h == pytest.approx(b, rel=0.05, abs=0.004)
    predicted = math.sqrt(0.01 / (2 - 0.01) * 0.3**2 / 32)
    assert spread < 1.5 * predicted


def test_levels_close_without_a_gap_and_follow_the_gap():
    results = {e: toys.gap(e, toys.fast(), **FAST) for e in (0.0, 0.1, 0.4)}
    betas = {e: r.beta(200)[0] for e, r in results.items()}
    assert betas[0.0] < 2e-3
    assert betas[0.1] == pytest.approx(0.1, abs=0.01)
    assert betas[0.4] == pytest.approx(0.4, abs=0.02)
    assert all(r.mse < 0.0115 for r in results.values())
    assert results[0.4].mse_closed > 0.1


def test_finite_data_close_only_under_rotation():
    fixed = toys.gap(0.0, toys.fast(), samples=24, **FAST)
    rotated = toys.gap(0.0, toys.fast(), samples=24, rotate=True, **FAST)
    assert fixed.beta(200)[0] > 0.08
    assert rotated.beta(200)[0] < 2e-3
    assert rotated.mse < 0.012


@pytest.mark.slow
def test_deep_network_opens_the_layer_that_is_broken():
    none, broken = (toys.deep(kind, toys.fast(), **DEEP) for kind in ("none", "input"))
    assert max(none.beta(200)) < 5e-3
    first, *others = broken.beta(200)
    assert first > 2 * max(others)
    assert broken.mse < 0.1 * broken.mse_closed


@pytest.mark.slow
def test_deep_network_sees_deformed_inputs_unless_rotated():
    assert max(toys.deep("none", toys.fast(), stretch=STRETCH, **DEEP).beta(200)) > 8e-3
    assert max(toys.deep("none", toys.fast(), stretch=STRETCH, rotate=True, **DEEP).beta(200)) < 3e-3


@pytest.mark.parametrize("broken", [(0, 1), (1, 0), (1, 1)])
def test_only_the_broken_block_opens(broken):
    result = toys.blocks(["8x0e", "8x1o"], broken, toys.fast(rank=8), **FAST)
    name = f"{('0e', '1o')[broken[0]]}>{('0e', '1o')[broken[1]]}"
    levels = dict(zip(result.names, result.beta(200), strict=True))
    assert levels.pop(name) > 0.2
    assert max(levels.values()) < 3e-3


def test_parity_break_needs_the_parity_block():
    entries = ["4x0e", "4x0o", "4x1o", "4x1e"]
    full = toys.blocks(entries, (2, 3), toys.fast(group="o3"), **FAST)
    levels = dict(zip(full.names, full.beta(200), strict=True))
    assert levels.pop("1o>1e parity") > 0.2
    assert max(levels.values()) < 5e-3
    rotations_only = toys.blocks(entries, (2, 3), toys.fast(group="so3"), **FAST)
    assert max(rotations_only.beta(200)) < 5e-3
    assert rotations_only.mse > 1.5 * full.mse


def test_learned_probe_closes_and_follows():
    closed, open_ = (toys.gap(e, toys.fast(probe="mlp"), **FAST) for e in (0.0, 0.4))
    assert closed.beta(200)[0] < 0.03  # hovers higher than at full length, with the larger rate
    assert open_.beta(200)[0] == pytest.approx(0.4, abs=0.03)


@pytest.mark.slow
def test_gap_sweep_at_full_length():
    sweep = (0.0, 0.03, 0.1, 0.2, 0.4, 0.8)
    betas = []
    for epsilon in sweep:
        results = [toys.gap(epsilon, toys.hard(), seed=s) for s in range(3)]
        betas.append(sum(r.beta()[0] for r in results) / 3)
        assert max(r.mse for r in results) < 0.0115
    assert betas == sorted(betas)
    assert betas[0] < 2e-3
    # beta is the gap over the scale of f, which is 1 up to the draw of the teacher.
    assert all(b == pytest.approx(e, rel=0.06, abs=0.003) for b, e in zip(betas[1:], sweep[1:], strict=True))


@pytest.mark.slow
def test_rivals_recover_what_they_can():
    """Mean squared errors without a gap and with one of .4; the noise alone is .0100."""
    wanted = {
        "none": (0.0100, 0.170), "fixed": (0.0201, 0.100), "anneal": (0.0100, 0.170), "ace": (0.0101, 0.115),
        "remul": (0.0102, 0.052), "learned": (0.0100, 0.0102), "recm": (0.0101, 0.0103),
    }  # fmt: skip
    for mode, (sound, broken) in wanted.items():
        tolerance = 0.3 if mode == "ace" else 0.1
        assert toys.gap(0.0, toys.hard(mode)).mse == pytest.approx(sound, rel=tolerance), mode
        assert toys.gap(0.4, toys.hard(mode)).mse == pytest.approx(broken, rel=tolerance), mode


@pytest.mark.slow
def test_levels_reopen_when_the_teacher_breaks():
    result = toys.gap(lambda step: 0.4 * (step >= 3000), toys.hard(), steps=6000)
    assert float(result.levels[2999]) < 2e-3
    assert float(result.levels[3300]) > 0.35
