"""The data sheet says what the inventory and the schedule say, in words and in cycles of both conventions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from emulator.array.bit_cycles import exposures
from emulator.array.cycles import costs
from emulator.array.datasheet import (
    bits_each,
    geometry,
    live_when,
    never_live,
    preset_facts,
    register_facts,
    registers_page,
    storage_totals,
)
from emulator.array.fit import RawFit
from emulator.array.presets import PRESETS
from emulator.array.registers import inventory, register
from emulator.array.spec import ArraySpec
from emulator.array.tiling import schedule
from emulator.gemm import GemmShape

PAGE = Path(__file__).parents[2] / "docs/registers.md"
GEMMINI = ArraySpec.preset("gemmini-16")
SMALL = ArraySpec(rows=4, cols=3, psum_bits=18, acc_rows=16, act_buffer_rows=64, wgt_buffer_rows=64)
ARRAYS = [
    SMALL,
    replace(SMALL, dataflow="os"),
    replace(SMALL, dataflow="is"),
    replace(SMALL, dataflows="ws", bank_bits=8),
    replace(SMALL, cols=1),
    replace(SMALL, requantiser="fixed-point"),
]


def test_the_page_of_registers_is_that_of_the_inventory() -> None:
    command = "emulator inspect --registers --array gemmini-16 --markdown > docs/registers.md"
    assert PAGE.read_text(encoding="utf-8") == registers_page(GEMMINI), f"run: {command}"
    assert command in PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "size", "each", "bits"),
    [
        ("pe_a", "16 x 16", "8", 16 * 16 * 8),
        ("pe_b", "16 x 16", "20 (8 in row 0)", 16 * 8 + 15 * 16 * 20),
        ("skew_a", "16 lines of 0 to 15", "8", 120 * 8),
        ("out_b", "1 x 16, row 16", "20", 320),
        ("seq_pc", "1 x 1", "24", 24),
        ("accumulator", "1024 x 16", "32", 64 * 1024 * 8),
        ("act_buffer", "8192 x 16", "8", 128 * 1024 * 8),
    ],
)
def test_a_register_has_the_size_of_the_machine(name: str, size: str, each: str, bits: int) -> None:
    entry = register(GEMMINI, name)
    assert (geometry(entry), bits_each(entry)) == (size, each)
    assert register_facts(entry)["bits"] == bits


@pytest.mark.parametrize("spec", ARRAYS, ids=lambda s: f"{s.dataflow} {s.dataflows} {s.cols} {s.requantiser}")
def test_never_live_are_just_the_registers_without_a_live_site(spec: ArraySpec) -> None:
    # Two row blocks, two column folds and more than one k-fold: whatever can be live is.
    plan = schedule(spec, GemmShape(m=11, k=21, n=5))
    for entry in inventory(spec):
        assert never_live(entry) == (int(entry.lifetime.count(plan).sum()) == 0), entry.name


@pytest.mark.parametrize("spec", ARRAYS, ids=lambda s: f"{s.dataflow} {s.dataflows} {s.cols} {s.requantiser}")
def test_every_lifetime_has_its_words(spec: ArraySpec) -> None:
    said = {entry.name: live_when(entry.lifetime, entry.bits) for entry in inventory(spec)}
    assert all(said.values())
    assert said["transposer"] == "never"
    assert said["seq_pc"] == "any cycle may matter"
    assert said["accumulator"].startswith("from a block's first sum until it is drained")


def test_words_name_the_bits_that_can_be_live() -> None:
    entry = register(GEMMINI, "pe_c1")
    assert live_when(entry.lifetime, entry.bits).endswith("; bits 0 to 7")
    banks = register(replace(SMALL, dataflow="os"), "pe_c1")
    assert live_when(banks.lifetime, banks.bits).endswith("; bits 0 to 17")


def test_totals_by_storage_count_every_class_once() -> None:
    totals = storage_totals(GEMMINI)
    assert totals["sram"] == {"classes": 3, "bits": (64 + 128 + 128) * 1024 * 8, "never_live_bits": 0}
    entries = inventory(GEMMINI)
    assert sum(total["classes"] for total in totals.values()) == len(entries)
    assert sum(total["bits"] for total in totals.values()) == sum(entry.total_bits for entry in entries)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_has_its_fields_sizes_and_peak(name: str) -> None:
    facts = preset_facts(name)
    assert facts.items() >= PRESETS[name].items()
    assert facts["accumulator_kib"] * 1024 == facts["acc_rows"] * facts["cols"] * facts["acc_bits"] / 8


# ---- cycles and exposure


def test_a_layer_costs_its_cycles_in_both_conventions() -> None:
    # Gemmini: 16 slots of preload, 64 of rows, 33 to drain; SCALE-Sim: 64 + 2 x 16 + 16 - 2 cycles, counted from 0.
    found = costs([schedule(GEMMINI, GemmShape(m=64, k=9, n=4))])
    assert list(found) == ["gemmini", "scale-sim"]
    assert (found["gemmini"].cycles, found["scale-sim"].cycles) == (113, 109)
    assert found["gemmini"].utilisation == pytest.approx(64 * 9 * 4 / (113 * 256))
    assert found["scale-sim"].utilisation == pytest.approx(64 * 9 * 4 / (109 * 256))
    assert found["gemmini"].milliseconds == pytest.approx(113e-6)


def test_a_network_costs_what_its_layers_do() -> None:
    tpu = ArraySpec.preset("tpu-v1")
    plans = [schedule(tpu, GemmShape(m=m, k=300, n=40)) for m in (7, 600)]
    whole, parts = costs(plans), [costs([plan]) for plan in plans]
    for name, cost in whole.items():
        assert cost.cycles == sum(part[name].cycles for part in parts)
        assert cost.milliseconds == pytest.approx(1e3 * cost.cycles / 700e6)
        macs = 607 * 300 * 40
        assert cost.utilisation == pytest.approx(macs / (cost.cycles * 65536))


def test_exposure_is_bits_times_window_and_its_live_part_that_of_the_schedule() -> None:
    plan = schedule(GEMMINI, GemmShape(m=64, k=9, n=4))
    raw = RawFit(flip_flop_fit_per_mbit=75.0, by_register=(("accumulator", 0.0),))
    found = {e.register.name: e for e in exposures(GEMMINI, [plan, plan], raw)}
    pe_a = found["pe_a"]
    assert pe_a.bit_cycles == 2 * 2048 * plan.window_cycles
    # An activation is in each of the 9 x 4 PEs in use for one cycle a row.
    assert pe_a.live == 2 * 64 * 9 * 4 * 8
    assert pe_a.live_share == pe_a.live / pe_a.bit_cycles
    assert pe_a.raw_fit == pytest.approx(2048 * 75e-6)
    assert found["accumulator"].raw_fit == 0.0
    assert found["act_buffer"].raw_fit == pytest.approx(1048576 * 20e-6)
    assert list(found) == [entry.name for entry in inventory(GEMMINI)]


def test_a_class_without_bits_exposes_nothing() -> None:
    (skew,) = (e for e in exposures(replace(SMALL, cols=1), [], RawFit()) if e.register.name == "skew_b")
    assert (skew.bit_cycles, skew.live_share, skew.raw_fit) == (0, 0.0, 0.0)
