"""The vector operations that other kernels may build on, as a sparse product would: only words with a change."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import emulator
from emulator.instructions import available

SPARSE = """
import numpy as np
from emulator.instructions import CHOSEN
from emulator.jit import kernel
from emulator.simd.vectors import (
    LANES, blank, load, multiply_deltas, multiply_pairs, places, raised, store, vectors_of,
)

@kernel
def pairs(source, changed, weights, acc):
    tile = load(blank(2, 3), acc, 0, 3 * LANES)
    rows = places(tile, np.array([0, 8], np.int32), 0, 1, 0)
    for word in changed:
        tile = multiply_pairs(tile, source, rows, word, weights, word * 3 * LANES, LANES)
    store(raised(tile, -7), acc, 0, 3 * LANES)
    return vectors_of(tile)

@kernel
def deltas(source, changed, weights, acc):
    tile = load(blank(1, 3), acc, 0, 0)
    rows = places(tile, np.array([0], np.int32), 0, 1, 0)
    for word in changed:
        tile = multiply_deltas(tile, source, rows, word, weights, word * 3 * LANES, LANES)
    store(raised(tile, -128 * source.view(np.int8).sum()), acc, 0, 0)

rng = np.random.default_rng(0)
changed, n = np.array([1, 2, 6]), 3 * LANES
acc = rng.integers(-(1 << 31), 1 << 31, (2, n)).astype(np.int32)

change = rng.integers(-255, 256, (2, 8, 2)).astype(np.int16)
change[:, [w for w in range(8) if w not in changed]] = 0
weight = rng.integers(-128, 128, (8, n, 2)).astype(np.int16)
found = acc.copy().reshape(-1)
assert pairs(change.view(np.int32).reshape(-1), changed, weight.view(np.int32).reshape(-1), found) == 3
wanted = acc + np.einsum("rwi,wni->rn", change.astype(np.int64), weight) - 7
assert np.array_equal(found.reshape(2, n), wanted.astype(np.int32))

if CHOSEN.name == "vnni":
    change = rng.integers(-128, 128, (8, 4)).astype(np.int8)
    change[[w for w in range(8) if w not in changed]] = 0
    weight = rng.integers(-128, 128, (8, n, 4))
    found = acc[0].copy()
    words = weight.astype(np.int8).view(np.int32).reshape(-1)
    deltas(change.view(np.int32).reshape(-1), changed, words, found)
    wanted = acc[0] + np.einsum("wi,wni->n", change.astype(np.int64), weight)
    assert np.array_equal(found, wanted.astype(np.int32))
print("exact")
"""


@pytest.mark.parametrize("name", [name for name in available() if name != "plain"])
def test_sparse_products_take_only_changed_words(name: str, tmp_path: Path) -> None:
    script = tmp_path / "sparse.py"
    script.write_text(SPARSE)
    done = subprocess.run(
        [sys.executable, str(script)],
        env=os.environ | {"EMULATOR_SIMD": name, "PYTHONPATH": str(Path(emulator.__file__).parents[1])},
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == "exact", done.stderr
