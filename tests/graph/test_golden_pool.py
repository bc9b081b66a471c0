"""Golden runs that processes keep for each other."""

from __future__ import annotations

import os
import resource
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emulator.campaign.inputs import random_samples
from emulator.graph.golden import Golden
from emulator.graph.golden_pool import GoldenPool, PoolFile
from emulator.graph.load import load


def empty(folder: Path, room: int = 1 << 30) -> PoolFile:
    path = folder / "pool"
    path.touch()
    return PoolFile(path, room)


def test_what_one_puts_another_gets(digits: Any, tmp_path: Path) -> None:
    file = empty(tmp_path)
    one, two = (GoldenPool(digits.golden, file, 5) for _ in range(2))
    sample = digits.inputs[3]
    assert one.get(3, sample) is None
    run = digits.inference(3)
    kept, got = one.put(3, run), two.get(3, sample)
    assert got is not None and two.get(2, sample) is None
    for found in (kept, got):
        np.testing.assert_array_equal(found.values, run.values)
        np.testing.assert_array_equal(found.accumulators, run.accumulators)
        assert found.host.keys() == run.host.keys()
        np.testing.assert_array_equal(found.host["input"], run.host["input"])
        assert found.values.dtype == np.int8 and found.accumulators.dtype == np.int32
    assert np.shares_memory(kept.values, one.put(3, run).values)
    assert GoldenPool(digits.golden, file, 5).get(3, sample) is not None


def test_images_beyond_its_room_are_not_kept(digits: Any, tmp_path: Path) -> None:
    pool = GoldenPool(digits.golden, empty(tmp_path, room=200_000), 1000)
    assert 0 < pool.capacity < 1000
    last = pool.capacity - 1
    pool.put(last, digits.inference(0))
    assert pool.get(last, digits.inputs[0]) is not None
    run = digits.inference(1)
    assert pool.put(last + 1, run) is run and pool.get(last + 1, digits.inputs[1]) is None
    assert (tmp_path / "pool").stat().st_size <= 200_000


def test_a_file_that_may_not_grow_keeps_nothing(digits: Any, tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        pool = GoldenPool(digits.golden, empty(tmp_path), 5)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    run = digits.inference(1)
    assert pool.put(1, run) is run and pool.get(1, digits.inputs[1]) is None


def test_a_full_disk_keeps_nothing_and_loses_nothing(
    digits: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    pool, run = GoldenPool(digits.golden, empty(tmp_path), 4), digits.inference(0)
    assert pool.put(0, run) is run and pool.get(0, digits.inputs[0]) is None


def test_a_network_with_host_values_keeps_nothing(tmp_path: Path) -> None:
    network = load(Path(__file__).parents[1] / "data/models/sklearn_mlp_dynamic.onnx")
    golden, sample = Golden(network.graph), random_samples(network.graph, 1, 0).inputs[0]
    pool, run = GoldenPool(golden, empty(tmp_path), 4), golden.run(sample)
    assert pool.put(0, run) is run and pool.get(0, sample) is None


def test_only_what_was_reserved_is_touched(digits: Any) -> None:
    """In a file system of memory a page that is only read takes room too, and without any the process dies."""
    memory = Path("/dev/shm")
    with tempfile.NamedTemporaryFile(dir=memory if memory.is_dir() else None) as file:
        pool = GoldenPool(digits.golden, PoolFile(Path(file.name), 1 << 30), 400)
        header = os.stat(file.name).st_blocks
        assert all(pool.get(image, digits.inputs[image]) is None for image in range(400))
        assert os.stat(file.name).st_blocks == header
        pool.put(7, digits.inference(7))
        grown = os.stat(file.name).st_blocks
        assert all((pool.get(i, digits.inputs[i]) is None) == (i != 7) for i in range(400))
        assert os.stat(file.name).st_blocks == grown > header
