"""Losses against finite differences in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from emulator.harden.losses import TINY, cross_entropy, movement, softmax, spread_of

RNG = np.random.default_rng(0)


def slope(loss: Callable[[Any], float], at: Any) -> Any:
    """Central differences, element by element."""
    found, step = np.zeros_like(at), 1e-6
    for index in np.ndindex(at.shape):
        up, down = at.copy(), at.copy()
        up[index] += step
        down[index] -= step
        found[index] = (loss(up) - loss(down)) / (2 * step)
    return found


def test_cross_entropy_has_the_gradient_it_says() -> None:
    logits, target = RNG.normal(0, 3, (5, 4)), softmax(RNG.normal(0, 1, (5, 4)))
    loss, gradient = cross_entropy(logits, target)
    assert loss == pytest.approx(-np.mean(np.sum(target * np.log(softmax(logits)), axis=1)))
    np.testing.assert_allclose(gradient, slope(lambda z: cross_entropy(z, target)[0], logits), atol=1e-8)


def test_cross_entropy_survives_large_logits() -> None:
    loss, gradient = cross_entropy(np.array([[1e4, -1e4]]), np.array([[0.0, 1.0]]))
    assert loss == pytest.approx(2e4)
    assert np.isfinite(gradient).all()


def test_movement_has_the_gradient_it_says() -> None:
    clean, struck = RNG.normal(0, 3, (5, 4)), RNG.normal(0, 3, (5, 4))
    _, gradient = movement(clean, struck, 2.5)
    np.testing.assert_allclose(gradient, slope(lambda z: movement(clean, z, 2.5)[0], struck), atol=1e-7)
    np.testing.assert_allclose(-gradient, slope(lambda z: movement(z, struck, 2.5)[0], clean), atol=1e-7)


def test_equal_logits_have_a_yardstick() -> None:
    assert spread_of(np.ones((3, 4))) == 1


def test_what_all_logits_move_by_alike_is_no_movement() -> None:
    clean = RNG.normal(0, 3, (5, 4))
    assert movement(clean, clean + 7.0, 1.0)[0] == pytest.approx(0)
    assert movement(clean, clean, 1.0)[0] == 0


def test_a_movement_as_large_as_the_spread_counts_one() -> None:
    """One logit moves by d, so all of them by |d| sqrt(3 / 4) from their mean."""
    clean, d = RNG.normal(0, 3, (50, 4)), RNG.normal(0, 3, 50)
    struck = clean + d[:, np.newaxis] * np.eye(4)[0]
    want = np.mean(np.abs(d)) * np.sqrt(0.75 / spread_of(clean))
    assert movement(clean, struck, spread_of(clean))[0] == pytest.approx(want, abs=TINY)
