"""Products of layers against NumPy in int64; `test_instructions.py` runs this file on every path."""

from __future__ import annotations

from dataclasses import dataclass

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
def _add(changes, count, weight, packed, group, tap, taps, depth, n, sums, place) -> None:  # type: ignore[no-untyped-def]
    words = simd.in_words(changes, count, n)
    simd.add_changes(changes, count, words, weight, packed, group, tap, taps, depth, n, sums, place)


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
@given(
    seed=st.integers(0, 1 << 32),
    groups=st.integers(1, 3),
    depth=st.integers(1, 20),
    n=st.integers(1, 70),
    taps=st.integers(1, 4),
    changed=st.floats(0, 1),
    extreme=st.booleans(),
)
def test_changes_of_a_pixel_add_their_products(
    seed: int, groups: int, depth: int, n: int, taps: int, changed: float, extreme: bool
) -> None:
    rng = np.random.default_rng(seed)
    weight = rng.integers(-128, 128, (groups, taps * depth, n)).astype(np.int8)
    group, tap, width = int(rng.integers(groups)), int(rng.integers(taps)), int(simd.sum_width(n))
    channels = rng.permutation(depth)[: round(changed * depth)]
    size = len(channels)
    change = rng.choice([-255, -128, 127, 128, 255], size) if extreme else rng.integers(-255, 256, size)
    changes = simd.changes_for(depth)
    changes.channel[:size], changes.change[:size] = channels, change
    sums = rng.integers(-(1 << 31), 1 << 31, (3, width)).astype(np.int32)
    wanted = sums[:, :n].astype(np.int64)
    wanted[1] += change @ weight[group, tap * depth + channels].astype(np.int64)
    flat, packed = weight.reshape(-1), simd.pack(weight, depth)
    _add(changes, size, flat, packed, group, tap, taps, depth, n, sums.reshape(-1), width)
    assert np.array_equal(sums[:, :n], wanted.astype(np.int32))


@kernel
def _recompute(  # type: ignore[no-untyped-def]
    touched, current, before, taps, groups, group, depth, n, packed, laid, acc, scale, golden, after, noted
):
    units = simd.lay_changes(touched, current, before, depth, n, laid)
    if units < 0:
        return -1
    words, total = simd.list_words(laid, taps, groups, group, depth)
    row = simd.Row(n, 1000, words, total, packed, acc, 0, scale, 0, 3, -100, 90, golden, after, 0)
    count = simd.settle_row(laid, row, group, len(taps), depth, noted, 1)
    simd.clear_changes(laid, units, depth)
    return count


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
@given(
    seed=st.integers(0, 1 << 32),
    groups=st.integers(1, 3),
    depth=st.integers(1, 150),
    n=st.integers(1, 70),
    taps=st.integers(1, 5),
    changed=st.floats(0, 1),
    extreme=st.booleans(),
)
def test_a_row_is_recomputed_from_the_changes_it_reads(
    seed: int, groups: int, depth: int, n: int, taps: int, changed: float, extreme: bool
) -> None:
    """Of several pixels, in any order; or nothing is laid out, and nothing left behind."""
    rng = np.random.default_rng(seed)
    pixels, group, size, width = 4, int(rng.integers(groups)), 4 * groups * depth, int(simd.sum_width(n))
    weight = rng.integers(-128, 128, (groups, taps * depth, n)).astype(np.int8)
    before = rng.integers(-128, 128, size)
    change = rng.choice([-255, 255], size) if extreme else rng.integers(-128, 128, size)
    current = np.clip(before + change, -128, 127)
    touched = rng.permutation(np.flatnonzero((current != before) & (rng.random(size) < changed)))
    difference = np.zeros(size, np.int64)
    difference[touched] = (current - before)[touched]
    seen = rng.integers(-1, pixels, taps).astype(np.int32)
    read = np.zeros((taps, depth), np.int64)
    read[seen >= 0] = difference.reshape(pixels, groups, depth)[seen[seen >= 0], group]
    sizes = (np.array([number]) for number in (pixels * groups, depth, taps))
    laid, packed = simd.laid_for(*sizes), simd.pack(weight, depth)
    acc = rng.integers(-(1 << 16), 1 << 16, width).astype(np.int32)
    scale = rng.uniform(1e-4, 2e-3, width).astype(np.float32)
    golden, wanted, after = (np.zeros(width, np.int8) for _ in range(3))
    simd.requantise_rows(acc[None, :n], scale[:n], 3, -100, 90, golden[None, :n])
    noted = np.zeros(1 + n, np.int32)
    arrays = touched.astype(np.int32), current.astype(np.int8), before.astype(np.int8), seen
    count = _recompute(*arrays, groups, group, depth, n, packed, laid, acc, scale, golden, after, noted)
    assert not laid.words.any() and not laid.filled.any() and not laid.total.any()
    if count < 0:
        narrow = simd.CHOSEN.name == "vnni" and not -128 <= difference.min() <= difference.max() <= 127
        assert narrow or width == n
        return
    moved = acc[:n] + (read.reshape(-1) @ weight[group].astype(np.int64)).astype(np.int32)
    simd.requantise_rows(moved[None], scale[:n], 3, -100, 90, wanted[None, :n])
    assert np.array_equal(after[:n], wanted[:n])
    assert sorted(noted[1:count]) == (1000 + np.flatnonzero(wanted[:n] != golden[:n])).tolist()
