"""Products of layers against NumPy in int64; `test_instructions.py` runs this file on every path."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator import simd
from emulator.gemm import round_scaled
from emulator.jit import kernel

# NumPy's scalars warn where plain Python, without the JIT, wraps a sum unawares.
pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Layer:
    """A random layer: weight (groups, taps * depth, n)."""

    values: npt.NDArray[np.int8]
    channels: int
    taps: npt.NDArray[np.int32]
    padding: int
    weight: npt.NDArray[np.int8]
    bias: npt.NDArray[np.int32]

    @classmethod
    def random(
        cls, seed: int, *, groups: int, depth: int, n: int, outputs: int, taps: int, extreme: bool = False
    ) -> Layer:
        rng = np.random.default_rng(seed)
        pixels, channels = int(rng.integers(1, 20)), groups * depth

        def int8(*shape: int) -> npt.NDArray[np.int8]:
            return (rng.choice([-128, 127], shape) if extreme else rng.integers(-128, 128, shape)).astype(
                np.int8
            )

        return cls(
            values=int8(pixels * channels),
            channels=channels,
            taps=rng.integers(-1, pixels, (outputs, taps)).astype(np.int32),
            padding=int(int8(1)[0]),
            weight=int8(groups, taps * depth, n),
            bias=rng.integers(-(1 << 31), 1 << 31, groups * n).astype(np.int32),
        )

    def expected(self) -> npt.NDArray[np.int32]:
        """By NumPy: (m, groups * n)."""
        groups, depth, n = len(self.weight), self.channels // len(self.weight), self.weight.shape[2]
        outside = np.full((1, self.channels), self.padding, np.int8)
        pixels = np.concatenate((self.values.reshape(-1, self.channels), outside)).astype(np.int64)
        left = pixels[self.taps].reshape(*self.taps.shape, groups, depth)
        weight = self.weight.reshape(groups, -1, depth, n).astype(np.int64)
        sums = np.einsum("mtgc,gtcn->mgn", left, weight).reshape(len(self.taps), -1) + self.bias
        return sums.astype(np.int32)

    def product(self) -> npt.NDArray[np.int32]:
        """By the kernel."""
        groups = len(self.weight)
        acc = np.full((len(self.taps), len(self.bias)), 99, np.int32)
        packed = simd.pack(self.weight, self.channels // groups)
        simd.conv(self.values, self.channels, groups, self.taps, self.padding, packed, self.bias, acc)
        return acc


@given(
    seed=st.integers(0, 1 << 32),
    groups=st.integers(1, 3),
    depth=st.integers(1, 20),
    n=st.integers(1, 24),
    outputs=st.integers(1, 18),
    taps=st.integers(1, 10),
)
def test_products_of_any_shape(seed: int, groups: int, depth: int, n: int, outputs: int, taps: int) -> None:
    layer = Layer.random(seed, groups=groups, depth=depth, n=n, outputs=outputs, taps=taps)
    np.testing.assert_array_equal(layer.product(), layer.expected())


@pytest.mark.parametrize("n", [16, 32, 48, 64, 112, 130])
def test_products_of_many_columns(n: int) -> None:
    layer = Layer.random(n, groups=1, depth=16, n=n, outputs=31, taps=3)
    np.testing.assert_array_equal(layer.product(), layer.expected())


@given(seed=st.integers(0, 1 << 32), n=st.sampled_from([1, 8, 16, 33]))
def test_extreme_operands_do_not_saturate(seed: int, n: int) -> None:
    layer = Layer.random(seed, groups=1, depth=12, n=n, outputs=7, taps=9, extreme=True)
    np.testing.assert_array_equal(layer.product(), layer.expected())


@pytest.mark.parametrize("value", [-128, 127])
@pytest.mark.parametrize("weight", [-128, 127])
def test_sums_of_equal_extremes_are_exact_and_wrap(value: int, weight: int) -> None:
    depth, taps, n = 2048, 2, 17
    layer = Layer(
        values=np.full(depth, value, np.int8),
        channels=depth,
        taps=np.array([[0, -1]], np.int32),
        padding=value,
        weight=np.full((1, taps * depth, n), weight, np.int8),
        bias=np.array([-(1 << 31), (1 << 31) - 1, *range(n - 2)], np.int32),
    )
    np.testing.assert_array_equal(layer.product(), layer.expected())


def test_sums_longer_than_int32_wrap() -> None:
    k = 140_000
    act, wgt = np.full((2, k), -128, np.int8), np.full((k, 1), -128, np.int8)
    acc = np.zeros((2, 1), np.int32)
    simd.gemm(act, wgt, np.zeros(1, np.int32), acc)
    assert k * 128 * 128 > 1 << 31
    assert acc.tolist() == [[k * 128 * 128 - (1 << 32)]] * 2


@given(
    seed=st.integers(0, 1 << 32),
    channels=st.integers(1, 70),
    outputs=st.integers(1, 12),
    taps=st.integers(1, 11),
    extreme=st.booleans(),
)
def test_depthwise_products_of_any_shape(
    seed: int, channels: int, outputs: int, taps: int, extreme: bool
) -> None:
    layer = Layer.random(seed, groups=channels, depth=1, n=1, outputs=outputs, taps=taps, extreme=extreme)
    packed = simd.pack_depthwise(np.ascontiguousarray(layer.weight[:, :, 0].T))
    acc = np.full((outputs, channels), 99, np.int32)
    simd.depthwise(layer.values, channels, layer.taps, layer.padding, packed, layer.bias, acc)
    np.testing.assert_array_equal(acc, layer.expected())


@given(seed=st.integers(0, 1 << 32), m=st.integers(1, 20), k=st.integers(1, 40), n=st.integers(1, 40))
def test_gemm_of_two_new_operands(seed: int, m: int, k: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    act = rng.integers(-128, 128, (m, k)).astype(np.int8)
    wgt = rng.integers(-128, 128, (k, n)).astype(np.int8)
    bias = rng.integers(-(1 << 31), 1 << 31, n).astype(np.int32)
    acc = np.zeros((m, n), np.int32)
    simd.gemm(act, wgt, bias, acc)
    np.testing.assert_array_equal(acc, (act.astype(np.int64) @ wgt + bias).astype(np.int32))


@kernel
def _from_a_kernel(
    pool: npt.NDArray[np.int8],
    taps: npt.NDArray[np.int32],
    packed: npt.NDArray[np.int32],
    bias: npt.NDArray[np.int32],
    acc: npt.NDArray[np.int32],
) -> None:
    simd.conv(pool[5:], 4, 1, taps, 0, packed, bias, acc.reshape((len(taps), len(bias))))


def test_a_kernel_takes_products_of_parts_of_its_pools() -> None:
    layer = Layer.random(1, groups=1, depth=4, n=3, outputs=5, taps=2)
    pool = np.concatenate((np.full(5, 77, np.int8), layer.values))
    acc = np.zeros(15, np.int32)
    inside = np.where(layer.taps < 0, 0, layer.taps)
    _from_a_kernel(pool, inside, simd.pack(layer.weight, 4), layer.bias, acc)
    whole = Layer(
        values=layer.values, channels=4, taps=inside, padding=0, weight=layer.weight, bias=layer.bias
    )
    np.testing.assert_array_equal(acc.reshape(5, 3), whole.expected())


@given(
    seed=st.integers(0, 1 << 32),
    rows=st.integers(1, 9),
    channels=st.integers(1, 70),
    bits=st.integers(1, 32),
    zero_point=st.integers(-128, 127),
    bounds=st.tuples(st.integers(-128, 127), st.integers(-128, 127)).map(sorted),
)
def test_requantised_rows_are_those_of_numpy(
    seed: int, rows: int, channels: int, bits: int, zero_point: int, bounds: list[int]
) -> None:
    rng = np.random.default_rng(seed)
    acc = rng.integers(-(1 << (bits - 1)), 1 << (bits - 1), (rows, channels)).astype(np.int32)
    # Halves are frequent with powers of two, and large scales take products beyond int32.
    scale = np.where(
        rng.random(channels) < 0.5, 2.0 ** rng.integers(-20, 3, channels), rng.uniform(0, 9, channels)
    )
    low, high = bounds
    out = np.zeros((rows, channels), np.int8)
    simd.requantise_rows(acc, scale.astype(np.float32), zero_point, low, high, out)
    rounded = np.rint(acc.astype(np.float32) * scale.astype(np.float32)).astype(np.float64)
    expected = np.clip(rounded, low - zero_point, high - zero_point) + zero_point
    np.testing.assert_array_equal(out, expected.astype(np.int8))
    one = round_scaled(acc[0, 0], scale.astype(np.float32)[0])
    assert one == rounded[0, 0]


@kernel
def _lay(current, before, at, length, spread, unit, place) -> None:  # type: ignore[no-untyped-def]
    simd.lay(current, before, at, length, spread, unit, place)


def _spread(units: int, room: int) -> simd.Spread:
    size = units * room + 64
    return simd.Spread(np.zeros(units, np.int64), np.full(size, 77, np.uint8), np.full(size, 77, simd.CHANGE))


def _padded(values: npt.NDArray[np.generic]) -> npt.NDArray[Any]:
    """Kernels read whole vectors, and write back what lies behind a row."""
    return np.concatenate((values, np.full(64, 99, values.dtype)))


@given(
    seed=st.integers(0, 1 << 32),
    length=st.integers(1, simd.PART) | st.sampled_from([16, 32, simd.PART]),
    changed=st.floats(0, 1) | st.floats(0.9, 1),
    extreme=st.booleans(),
)
def test_a_unit_lists_its_changes(seed: int, length: int, changed: float, extreme: bool) -> None:
    rng = np.random.default_rng(seed)
    before = rng.integers(-128, 128, length + 3).astype(np.int8)
    other = rng.choice([-128, 127], length + 3) if extreme else rng.integers(-128, 128, length + 3)
    current = np.where(rng.random(length + 3) < changed, other, before).astype(np.int8)
    room = simd.room_of(length)
    spread = _spread(3, room)
    _lay(_padded(current), _padded(before), 3, length, spread, 1, room)
    filled, total = spread.mark[1] & simd.LOW, spread.mark[1] >> 32
    listed = slice(room, room + filled)
    found = np.zeros(length, np.int64)
    np.add.at(found, spread.channel[listed], spread.change[listed])
    difference = (current.astype(np.int64) - before)[3:]
    np.testing.assert_array_equal(found, difference)
    assert total == difference.sum() and spread.mark[[0, 2]].tolist() == [0, 0]
    named = set(spread.channel[listed].tolist())
    assert named == set(np.flatnonzero(difference).tolist())
    # What fills the last word up, and nothing of the units beside it.
    word = 4 // spread.change.itemsize
    assert not spread.change[listed.stop : room - filled // -word * word].any()
    assert (spread.channel[:room] == 77).all() and (spread.channel[2 * room :] == 77).all()


@kernel
def _recompute(  # type: ignore[no-untyped-def]
    current, before, spread, units, part, depth, parts, reading, settling, queues, taps, groups, group
):
    """Row 1, pixel 1, which reads one unit of a pixel after the other."""
    for unit in range(units):
        run, number = divmod(unit, parts)
        first = number * part
        simd.lay(
            current,
            before,
            run * depth + first,
            min(part, depth - first),
            spread,
            unit + parts * 3,
            unit * reading.room,
        )
    one, rows, count = np.zeros(1, np.int32), np.zeros(2, np.int32), 0
    for tap in range(len(taps) - 1):
        for number in range(parts):
            unit = parts * 3 + (taps[tap] * groups + group) * parts + number
            if taps[tap] >= 0 and spread.mark[unit] != 0:
                # Pixel 1 (of one group) by its tap, of which there are less than 8.
                one[0] = 1 << 3 | tap
                place = reading.places_at + unit * reading.room
                count = simd.read_by(
                    one, 3, 1, 0, depth, number * part, spread, unit, place, queues, rows, count
                )
    return count > 0 and simd.settle_row(reading, settling, queues, rows[0], 1)


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
@given(
    seed=st.integers(0, 1 << 32),
    groups=st.integers(1, 3),
    depth=st.integers(1, 150),
    n=st.integers(1, 140),
    taps=st.integers(1, 5),
    changed=st.floats(0, 1),
    extreme=st.booleans(),
    lopsided=st.booleans(),
)
def test_a_row_is_recomputed_from_the_changes_it_reads(
    seed: int, groups: int, depth: int, n: int, taps: int, changed: float, extreme: bool, lopsided: bool
) -> None:
    """Of several pixels, groups and parts; padding reads nothing, and what lies behind the row stays."""
    rng = np.random.default_rng(seed)
    pixels, group, size = 4, int(rng.integers(groups)), 4 * groups * depth
    weight = rng.integers(-128, 128, (groups, taps * depth, n)).astype(np.int8)
    zero = rng.integers(-128, 128, n) * lopsided
    before = rng.integers(-128, 128, size)
    other = rng.choice([-128, 127], size) if extreme else rng.integers(-128, 128, size)
    current = np.where(rng.random(size) < changed, other, before)
    seen = rng.integers(-1, pixels, (2, taps)).astype(np.int32)
    read = np.zeros((taps, depth), np.int64)
    inside = seen[1] >= 0
    read[inside] = (current - before).reshape(pixels, groups, depth)[seen[1][inside], group]
    acc = rng.integers(-(1 << 16), 1 << 16, 2 * n).astype(np.int32)
    scale = rng.uniform(1e-4, 2e-3, n).astype(np.float32)
    golden, after = (np.zeros(2 * n, np.int8) for _ in range(2))
    simd.requantise_rows(acc.reshape(2, n), scale, 3, -100, 90, golden.reshape(2, n))
    parts = -(-depth // simd.PART)
    part = -(-depth // parts)
    # Padding is a pixel before the first.
    room, units = simd.room_of(part), pixels * groups * parts
    spread = _spread((pixels + 3) * groups * parts, room)
    reading = simd.Reading(
        spread, seen.reshape(-1), 0, taps, groups * parts, (3 + group) * parts, parts, part, -3 * parts * room, room,
        _padded(simd.weight_rows(weight)), group * taps * depth * simd.row_bytes(n), depth, n,
        np.zeros(n, np.int32), np.zeros(n, np.int8),
    )  # fmt: skip
    full, padded = _padded(after), _padded(golden)
    zeros = _padded(zero.astype(np.int32)), int(zero.any())
    settling = simd.Settling(n, _padded(acc), 0, _padded(scale), *zeros, 0, 3, -100, 90, padded, full, 0)
    entries = (np.zeros(size, np.int64) for size in (2 * simd.QUEUE, taps * parts * simd.PART * 3))
    queues = simd.Queues(np.zeros(2, np.int64), *entries)
    arrays = _padded(current.astype(np.int8)), _padded(before.astype(np.int8))
    readers = np.concatenate([seen[1], np.full(1, -1, np.int32)])
    differs = _recompute(
        *arrays, spread, units, part, depth, parts, reading, settling, queues, readers, groups, group
    )
    assert not queues.mark.any()
    moved = read.reshape(-1) @ (weight[group].astype(np.int64) - zero)
    wanted = np.zeros(n, np.int8)
    simd.requantise_rows((acc[n:] + moved).astype(np.int32)[None], scale, 3, -100, 90, wanted[None])
    assert differs == (wanted != golden[n:]).any()
    if read.any():
        np.testing.assert_array_equal(full[n : 2 * n], wanted)
    assert not full[:n].any() and (full[2 * n :] == 99).all()
