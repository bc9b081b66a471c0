"""Steps down a gradient, on dictionaries of arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import cos, pi
from typing import Protocol

import numpy as np
import numpy.typing as npt

from emulator.errors import BadConfig

Floats = npt.NDArray[np.float32]
Arrays = dict[str, Floats]


class Optimiser(Protocol):
    """memory: what it keeps of past gradients of a parameter, by name; all zero before the first step."""

    @property
    def memory(self) -> tuple[str, ...]: ...

    def step(self, real: Floats, gradient: Floats, memory: Arrays, *, rate: float, count: int) -> Floats:
        """The parameter after step number `count`, from 1; updates `memory` in place."""
        ...


@dataclass(frozen=True, kw_only=True)
class Sgd:
    """Gradient descent with momentum (Polyak 1964) in the form of Sutskever et al., ICML'13."""

    momentum: float = 0.9

    @property
    def memory(self) -> tuple[str, ...]:
        return ("velocity",)

    def step(self, real: Floats, gradient: Floats, memory: Arrays, *, rate: float, count: int) -> Floats:
        velocity = memory["velocity"]
        velocity *= np.float32(self.momentum)
        velocity -= np.float32(rate) * gradient
        return real + velocity


@dataclass(frozen=True, kw_only=True)
class Adam:
    """Kingma & Ba, ICLR'15, algorithm 1."""

    first: float = 0.9
    second: float = 0.999
    tiny: float = 1e-8

    @property
    def memory(self) -> tuple[str, ...]:
        return ("mean", "square")

    def step(self, real: Floats, gradient: Floats, memory: Arrays, *, rate: float, count: int) -> Floats:
        mean, square = memory["mean"], memory["square"]
        mean += np.float32(1 - self.first) * (gradient - mean)
        square += np.float32(1 - self.second) * (gradient * gradient - square)
        scale = np.sqrt(square / np.float32(1 - self.second**count)) + np.float32(self.tiny)
        result: Floats = real - np.float32(rate / (1 - self.first**count)) * mean / scale
        return result


OPTIMISERS: Mapping[str, Optimiser] = {"adam": Adam(), "sgd": Sgd()}


def cosine(peak: float, done: float, *, warm_up: float = 0.05) -> float:
    """The learning rate after a share `done` of all steps: up to the peak in a straight line, then down to 0 as half a
    cosine (Loshchilov & Hutter, ICLR'17)."""
    if not 0 <= done <= 1:
        raise BadConfig(f"cosine: done={done}; allowed: 0 to 1. Give the share of the steps that are done.")
    if done < warm_up:
        return peak * done / warm_up
    return peak * (1 + cos(pi * (done - warm_up) / (1 - warm_up))) / 2
