"""What checksums cost, against schedules that are counted by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from emulator.array.spec import ArraySpec
from emulator.errors import BadConfig
from emulator.gemm import GemmShape
from emulator.harden.checksum_cost import layer_cost, network_cost, words_of


def layer(digits: Any, **shape: int) -> Any:
    return replace(digits.network.graph.layers[0], shape=GemmShape(**shape))


@pytest.mark.parametrize("bits, width", [(8, 8), (16, 16), (8, 16)])
def test_words_hold_every_sum_and_one_less_does_not(bits: int, width: int) -> None:
    """The range of balanced digits, by adding up their ends; sums modulo 2^32 need no more than 32 bits."""

    def holds(low: int, high: int, words: int) -> bool:
        ends = [
            sum(digit << (width * i) for i in range(words))
            for digit in (-(1 << width - 1), (1 << width - 1) - 1)
        ]
        return (ends[0] <= low and high <= ends[1]) or words * width >= 32

    for count in [1, 2, 3, 256, 257, 258, 259, 784, 65_536, 65_537, 65_538, 65_793, 65_794, 1 << 22, 1 << 24]:
        low, high = -(count << bits - 1), count * ((1 << bits - 1) - 1)
        words = words_of(count, bits, width)
        assert holds(low, high, words)
        assert words == 1 or not holds(low, high, words - 1), count


def test_cycles_and_macs_by_hand(digits: Any) -> None:
    """Weight-stationary, 16 x 16: 16 slots of preload, 16 a request of every fold, and 33 until the last row is out."""
    array, x = ArraySpec.preset("gemmini-16"), layer(digits, m=32, k=16, n=16)
    own = {check: layer_cost(array, x, check, "own") for check in ("rows", "columns", "both")}  # type: ignore[arg-type]
    same = {check: layer_cost(array, x, check, "same") for check in ("rows", "columns", "both")}  # type: ignore[arg-type]
    assert {(c.macs, c.cycles) for c in (*own.values(), *same.values())} == {(32 * 16 * 16, 16 + 32 + 33)}
    # Two words each: sums of 16 weights, of 32 activations.
    assert [own[c].extra_macs for c in own] == [32 * 16 * 2, 2 * 16 * 16, 32 * 16 * 2 + 2 * 16 * 16]
    assert [own[c].extra_cycles for c in own] == [16 + 32 + 33, 16 + 16 + 33, 32 + 48 + 66]
    assert [same[c].extra_macs for c in same] == [32 * 16 * 2, 2 * 16 * 16, 34 * 16 * 18 - 32 * 16 * 16]
    # 18 columns are two folds; 34 rows are three requests.
    assert [same[c].extra_cycles for c in same] == [32, 16, 2 * 48 - 32]
    assert own["both"].cycle_share == 146 / 81
    assert own["rows"].mac_share == 1 / 8
    wide = layer_cost(array, x, "both", "own", wide=True)
    assert wide.extra_macs == 32 * 16 + 16 * 16


def test_groups_have_checksums_of_their_own(digits: Any) -> None:
    """A depthwise product of one column is its own sum: its checksum is the product once more."""
    array, x = ArraySpec.preset("gemmini-16"), layer(digits, m=16, k=9, n=1, groups=6)
    cost = layer_cost(array, x, "rows", "own")
    assert (cost.macs, cost.extra_macs) == (16 * 9 * 6, 16 * 9 * 6)
    assert (cost.cycles, cost.extra_cycles) == (16 + 6 * 16 + 33,) * 2
    assert layer_cost(array, x, "columns", "own").extra_macs == 2 * 9 * 6


@pytest.mark.parametrize("dataflow", ["ws", "os", "is"])
@pytest.mark.parametrize("where", ["own", "same"])
def test_a_network_costs_what_its_layers_cost(fashion: Any, dataflow: str, where: Any) -> None:
    array, layers = replace(fashion.array, dataflow=dataflow), fashion.network.graph.layers
    parts = [layer_cost(array, x, "both", where) for x in layers]
    whole = network_cost(array, layers, "both", where)
    assert whole.macs == fashion.network.graph.macs
    for name in ("macs", "cycles", "extra_macs", "extra_cycles"):
        assert getattr(whole, name) == sum(getattr(part, name) for part in parts) > 0
    assert whole.to_json()["cycle_share"] == whole.extra_cycles / whole.cycles


def test_wide_operands_never_cost_more(fashion: Any) -> None:
    for x in fashion.network.graph.layers:
        narrow, wide = (layer_cost(fashion.array, x, "both", wide=wide) for wide in (False, True))
        assert wide.extra_macs <= narrow.extra_macs and wide.extra_cycles <= narrow.extra_cycles
        assert wide.extra_macs == x.shape.groups * x.shape.k * (x.shape.m + x.shape.n)


def test_an_unknown_check_or_pass_is_refused(digits: Any) -> None:
    x: Any = digits.network.graph.layers[0]
    with pytest.raises(BadConfig, match="pass 'other'; allowed: own, same"):
        layer_cost(digits.array, x, "both", "other")  # type: ignore[arg-type]
    with pytest.raises(BadConfig, match="check 'diagonals'"):
        layer_cost(digits.array, x, "diagonals")  # type: ignore[arg-type]
