"""Randomness has an address: the same seed and chunk give the same draws on any worker, in any order."""

from __future__ import annotations

import numpy as np


def rng_for(seed: int, chunk: int) -> np.random.Generator:
    """The generator of one chunk of trials."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(chunk,)))
