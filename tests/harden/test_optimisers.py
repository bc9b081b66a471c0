"""Optimisers against their papers, written out number by number."""

from __future__ import annotations

import numpy as np
import pytest

from emulator.errors import BadConfig
from emulator.harden.optimisers import OPTIMISERS, cosine

GRADIENTS = [0.5, -1.0, 2.0, 0.25, -0.125]


def walked(name: str, rate: float) -> float:
    optimiser = OPTIMISERS[name]
    real = np.ones(3, np.float32)
    memory = {kind: np.zeros(3, np.float32) for kind in optimiser.memory}
    for count, gradient in enumerate(GRADIENTS, start=1):
        real = optimiser.step(real, np.full(3, gradient, np.float32), memory, rate=rate, count=count)
    assert real.dtype == np.float32 and len(set(real.tolist())) == 1
    return float(real[0])


def test_sgd_with_momentum() -> None:
    x, v = 1.0, 0.0
    for g in GRADIENTS:
        v = 0.9 * v - 0.1 * g
        x += v
    assert walked("sgd", 0.1) == pytest.approx(x, rel=1e-6)


def test_adam() -> None:
    x, m, v = 1.0, 0.0, 0.0
    for t, g in enumerate(GRADIENTS, start=1):
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        x -= 0.01 * (m / (1 - 0.9**t)) / ((v / (1 - 0.999**t)) ** 0.5 + 1e-8)
    assert walked("adam", 0.01) == pytest.approx(x, rel=1e-5)


def test_the_rate_rises_to_its_peak_and_falls_to_nothing() -> None:
    rates = [cosine(0.1, done) for done in np.linspace(0, 1, 101)]
    assert (rates[0], max(rates), rates[100]) == (0, pytest.approx(0.1), pytest.approx(0))
    top = int(np.argmax(rates))
    assert top == 5
    assert sorted(rates[:top]) == rates[:top] and sorted(rates[top:], reverse=True) == rates[top:]
    with pytest.raises(BadConfig, match="allowed: 0 to 1"):
        cosine(0.1, 1.5)
