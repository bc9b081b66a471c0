"""The presets are complete, consistent with themselves, and have the sizes their sources give."""

from __future__ import annotations

from math import ceil, log2

import pytest

from emulator.array.presets import PRESETS

KIB = 1024
FIELDS = {
    *("name", "rows", "cols", "dataflow", "dataflows", "act_bits", "wgt_bits", "psum_bits", "acc_bits"),
    *("bank_bits", "acc_rows", "act_buffer_rows", "wgt_buffer_rows", "overflow", "requantiser", "clock_hz"),
}
CHOICES = {
    "dataflow": {"ws", "os", "is"},
    "dataflows": {"both", "ws"},
    "overflow": {"wrap", "saturate"},
    "requantiser": {"float32", "fixed-point"},
}


def number(preset: str, field: str) -> int:
    value = PRESETS[preset][field]
    assert isinstance(value, int), f"{preset}: {field} is a whole number"
    return value


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_gives_every_field(preset: str) -> None:
    assert PRESETS[preset].keys() == FIELDS
    assert PRESETS[preset]["name"] == preset
    assert all(PRESETS[preset][field] in allowed for field, allowed in CHOICES.items())
    assert isinstance(PRESETS[preset]["clock_hz"], float)


@pytest.mark.parametrize("preset", PRESETS)
def test_partial_sums_of_a_column_are_exact_and_fit_a_state_word(preset: str) -> None:
    operands = number(preset, "act_bits") + number(preset, "wgt_bits")
    assert number(preset, "psum_bits") == operands + ceil(log2(number(preset, "rows")))
    assert number(preset, "psum_bits") <= number(preset, "acc_bits") <= 32


@pytest.mark.parametrize("preset", PRESETS)
def test_banks_hold_what_the_build_keeps_in_them(preset: str) -> None:
    dual = PRESETS[preset]["dataflows"] == "both"
    assert number(preset, "bank_bits") == number(preset, "acc_bits" if dual else "wgt_bits")
    assert dual or PRESETS[preset]["dataflow"] != "os"


@pytest.mark.parametrize("preset", PRESETS)
def test_memories_hold_at_least_two_tiles(preset: str) -> None:
    for field in ("acc_rows", "act_buffer_rows", "wgt_buffer_rows"):
        assert number(preset, field) >= 2 * number(preset, "rows")
    assert number(preset, "acc_rows") % 2 == 0


@pytest.mark.parametrize(
    ("preset", "side", "buffers_kib", "accumulators_kib"),
    [
        ("gemmini-16", 16, 256, 64),
        ("gemmini-16-ws-only", 16, 256, 64),
        ("gemmini-32", 32, 512, 128),
        ("tpu-v1", 256, 24 * KIB + 4 * 64, 4 * KIB),
        ("edge-64", 64, 8 * KIB, 512),
    ],
)
def test_memories_have_the_published_capacity(
    preset: str, side: int, buffers_kib: int, accumulators_kib: int
) -> None:
    assert number(preset, "rows") == number(preset, "cols") == side
    buffers = side * (number(preset, "act_buffer_rows") + number(preset, "wgt_buffer_rows"))
    assert buffers == buffers_kib * KIB
    assert side * number(preset, "acc_rows") * 4 == accumulators_kib * KIB


@pytest.mark.parametrize(("preset", "peak_tops"), [("tpu-v1", 92), ("edge-64", 4)])
def test_the_clock_gives_the_published_peak(preset: str, peak_tops: int) -> None:
    macs = number(preset, "rows") * number(preset, "cols")
    assert round(2 * macs * float(PRESETS[preset]["clock_hz"]) / 1e12) == peak_tops


def test_ws_only_differs_from_the_default_in_its_pes_alone() -> None:
    default, lean = PRESETS["gemmini-16"], PRESETS["gemmini-16-ws-only"]
    assert {field for field in FIELDS if default[field] != lean[field]} == {"name", "dataflows", "bank_bits"}
