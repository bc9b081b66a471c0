"""The waveform: read back by a parser of its own, it holds what the cycle engine holds, and what the schedule says."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emulator.array.compile import compile_layer
from emulator.array.cycle import observer
from emulator.array.host import Words
from emulator.array.injection import encode_upsets
from emulator.array.layout import grid
from emulator.array.machine import advance, reset
from emulator.array.operands import Operands
from emulator.array.registers import Register, inventory, register
from emulator.array.spec import ArraySpec, Dataflow
from emulator.array.tiling import Schedule, schedule
from emulator.array.trace import LayerTrace
from emulator.array.upset import Upset
from emulator.errors import BadConfig
from emulator.faults.fault import Fault
from emulator.faults.space import FaultSpace
from emulator.gemm import GemmShape, Requantisation
from emulator.report.waveform import dump_trace, write_fault_waveform
from emulator.sampling.workbench import Workbench

SHAPE = GemmShape(m=7, k=9, n=5)
MEMORIES = ("accumulator", "act_buffer", "wgt_buffer")


# ---- a VCD file, read by the letter of IEEE 1364-2005 clause 18


@dataclass(frozen=True, kw_only=True)
class Signal:
    """width in bits; changes: (time, binary digits)."""

    width: int
    changes: list[tuple[int, str]]

    def at(self, time: int, signed: bool = False) -> int:
        """The value at a time, left-extended with zeros as the standard has it."""
        digits = [value for when, value in self.changes if when <= time][-1]
        assert len(digits) <= self.width
        assert set(digits) <= {"0", "1"}
        value = int(digits, 2)
        return value - (1 << self.width) if signed and value >> (self.width - 1) else value


@dataclass(frozen=True, kw_only=True)
class Vcd:
    comment: str
    timescale: str
    signals: dict[str, Signal]
    times: list[int]


def parse(text: str) -> Vcd:
    head, body = text.split("$enddefinitions $end\n")
    found = dict(re.findall(r"\$(comment|timescale)\s+(.*?)\s*\$end", head, re.DOTALL))
    signals, by_code = {}, {}
    scope: list[str] = []
    for keyword, rest in re.findall(r"^\$(scope|upscope|var) (.*?) ?\$end$", head, re.MULTILINE):
        if keyword == "scope":
            scope.append(rest.removeprefix("module "))
        elif keyword == "upscope":
            scope.pop()
        else:
            kind, width, code, name = rest.split()
            assert kind in ("reg", "wire", "integer")
            assert re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_$]*", name), "an identifier that needs no escape"
            # Two names may share an identifier code: one variable, seen from two scopes.
            signal = by_code.setdefault(code, Signal(width=int(width), changes=[]))
            assert signal.width == int(width)
            signals[".".join([*scope, name])] = signal
    times: list[int] = []
    for line in body.splitlines():
        if line.startswith("#"):
            times.append(int(line[1:]))
        elif not line.startswith("$"):
            value, code = line[1:].split(" ") if line[0] == "b" else (line[0], line[1:])
            by_code[code].changes.append((times[-1], value))
    assert times == sorted(set(times))
    return Vcd(comment=found["comment"], timescale=found["timescale"], signals=signals, times=times)


# ---- a layer, and what the engine holds


@dataclass(frozen=True, kw_only=True)
class Layer:
    plan: Schedule
    operands: Operands
    requantisation: Requantisation

    def trace(self, *upsets: Upset, before: int = 3, after: int = 40) -> LayerTrace:
        return LayerTrace(self.plan, self.operands, self.requantisation, upsets, before=before, after=after)

    def vcd(self, *upsets: Upset, before: int = 3, after: int = 40) -> Vcd:
        file = io.StringIO()
        dump_trace(file, self.trace(*upsets, before=before, after=after), "a test")
        return parse(file.getvalue())

    def state(self, upsets: Sequence[Upset], cycle: int) -> Words:
        """The engine's state at the start of `cycle`, its upsets not yet applied."""
        g = grid(self.plan.spec)
        host = compile_layer(self.plan, self.operands, self.requantisation)
        state, table = np.zeros(g.words, np.int32), encode_upsets(self.plan.spec, g, upsets)
        reset(state, g, host)
        patches = np.zeros(len(upsets), np.int32)
        assert advance(state, g, table, patches, host, observer(self.plan), 0, cycle) == cycle
        return state


def array_of(dataflow: Dataflow) -> ArraySpec:
    return ArraySpec(
        name="small",
        rows=4,
        cols=3,
        dataflow=dataflow,
        psum_bits=18,
        acc_rows=16,
        act_buffer_rows=64,
        wgt_buffer_rows=64,
    )


def layer_on(spec: ArraySpec) -> Layer:
    rng = np.random.default_rng(3)
    operands = Operands(
        act=rng.integers(-128, 128, (1, SHAPE.m, SHAPE.k)).astype(np.int8),
        wgt=rng.integers(-128, 128, (1, SHAPE.k, SHAPE.n)).astype(np.int8),
        bias=rng.integers(-1000, 1000, (1, SHAPE.n)).astype(np.int32),
    )
    scale = Requantisation(scale=np.full(SHAPE.n, 2e-3, np.float32), zero_point=3)
    return Layer(plan=schedule(spec, SHAPE), operands=operands, requantisation=scale)


@pytest.fixture(scope="module", params=["ws", "os", "is"])
def layer(request: pytest.FixtureRequest) -> Layer:
    return layer_on(array_of(request.param))


@pytest.fixture(scope="module")
def ws() -> Layer:
    return layer_on(array_of("ws"))


def held(plan: Schedule, state: Words, cycle: int, entry: Register, row: int, col: int) -> int:
    """A register's word in the state; not for the buffers, which the state doesn't hold."""
    g = grid(plan.spec)
    address, place = entry.home.locate(g, row, col)
    if place >= 0:
        address += (cycle - 1 - place) % g.depth * g.lanes
    word = int(state[address]) >> entry.lsb
    return word if entry.signed else word & ((1 << entry.width(row)) - 1)


FAULTS = [
    Upset(register="pe_b", row=2, col=1, bits=(5, 17), cycle=20),
    Upset(register="accumulator", row=3, col=1, bits=(30,), cycle=25),
    Upset(register="seq_row", row=0, col=0, bits=(1,), cycle=13),
    Upset(register="skew_a", row=3, col=1, bits=(7,), cycle=14),
    Upset(register="requant_valid", row=4, col=0, bits=(0,), cycle=30),
    Upset(register="pe_propagate", row=1, col=0, bits=(0,), kind="stuck-at-1", cycle=11, until_cycle=13),
]


@pytest.mark.parametrize("upset", FAULTS, ids=lambda upset: upset.register)
def test_every_register_has_the_engines_value_and_width(layer: Layer, upset: Upset) -> None:
    vcd = layer.vcd(upset)
    struck = range(upset.cycle, (upset.until_cycle or upset.cycle) + 1)
    cycles = [t for t in vcd.times[:-1:4] if t not in struck]
    for scope, upsets in (("golden", ()), ("faulty", (upset,))):
        for cycle in cycles:
            state = layer.state(upsets, cycle)
            for entry in inventory(layer.plan.spec):
                if entry.name.startswith("transposer") or entry.name in MEMORIES[1:]:
                    continue
                for row, col in places(vcd, scope, entry.name):
                    signal = vcd.signals[f"{scope}.{entry.name}.{entry.name}_{row}_{col}"]
                    assert signal.width == entry.width(row)
                    at = (scope, cycle, entry.name, row, col)
                    expected = held(layer.plan, state, cycle, entry, row, col)
                    assert (at, signal.at(cycle, entry.signed)) == (at, expected)


def places(vcd: Vcd, scope: str, name: str) -> list[tuple[int, int]]:
    start = f"{scope}.{name}.{name}_"
    at = [key.removeprefix(start).split("_") for key in vcd.signals if key.startswith(start)]
    return [(int(row), int(col)) for row, col in at]


def test_every_register_is_there_in_both_scopes(layer: Layer) -> None:
    vcd = layer.vcd(FAULTS[0])
    for entry in inventory(layer.plan.spec):
        golden, faulty = (places(vcd, scope, entry.name) for scope in ("golden", "faulty"))
        assert golden == faulty
        if entry.name not in MEMORIES:
            rows = enumerate(entry.lines, entry.first_row)
            assert golden == [(row, col) for row, length in rows for col in range(length)]


def test_activations_pass_as_the_schedule_says(ws: Layer) -> None:
    # Slot s of the first fold is row s - first of the operands; it is in pe_a of PE(r, c) in cycle s + 2 + r + c.
    vcd, plan = ws.vcd(replace(FAULTS[0], cycle=0), after=30), ws.plan
    seen = 0
    for m in range(SHAPE.m):
        for row in range(4):
            for col in range(3):
                cycle = int(plan.first_slot[0]) + m + 2 + row + col
                value = vcd.signals[f"golden.pe_a.pe_a_{row}_{col}"].at(cycle, signed=True)
                assert value == ws.operands.act[0, m, row]
                seen += 1
    assert seen == 84


def test_drained_rows_are_the_matrix_product(ws: Layer) -> None:
    plan = ws.plan
    first = int(plan.drain_start[0])
    vcd = ws.vcd(Upset(register="transposer", row=0, col=0, bits=(0,), cycle=first))
    product = ws.operands.act[0].astype(np.int64) @ ws.operands.wgt[0] + ws.operands.bias[0]
    for m in range(SHAPE.m):
        signals = [vcd.signals[f"golden.requant_acc.requant_acc_0_{col}"] for col in range(3)]
        assert [s.at(first + 1 + m, signed=True) for s in signals] == product[m, :3].tolist()


@pytest.mark.parametrize("upset", FAULTS, ids=lambda upset: upset.register)
def test_nothing_differs_before_the_fault_and_just_the_struck_bits_in_its_cycle(
    layer: Layer, upset: Upset
) -> None:
    vcd = layer.vcd(upset)
    entry = register(layer.plan.spec, upset.register)
    cycle = upset.cycle
    assert vcd.times[0] == cycle - 3
    assert [vcd.signals["fault.differs"].at(t) for t in range(cycle - 3, cycle)] == [0, 0, 0]
    name = f"{entry.name}.{entry.name}_{upset.row}_{upset.col}"
    golden, faulty = (vcd.signals[f"{scope}.{name}"].at(cycle) for scope in ("golden", "faulty"))
    mask = sum(1 << bit for bit in upset.bits)
    assert faulty == (golden ^ mask if upset.kind == "flip" else golden | mask)
    differing = [
        key
        for key in vcd.signals
        if key.startswith("golden.")
        and vcd.signals[key].at(cycle) != vcd.signals[key.replace("golden.", "faulty.", 1)].at(cycle)
    ]
    assert differing == ([f"golden.{name}"] if golden != faulty else [])


@pytest.mark.parametrize("upset", FAULTS, ids=lambda upset: upset.register)
def test_the_flags_say_where_the_fault_is(layer: Layer, upset: Upset) -> None:
    vcd = layer.vcd(upset)
    last = upset.cycle if upset.kind == "flip" else upset.until_cycle
    assert last is not None
    for cycle in vcd.times[:-1]:
        wrong = set()
        for key, signal in vcd.signals.items():
            scope, _, rest = key.partition(".")
            if scope == "golden" and signal.at(cycle) != vcd.signals[f"faulty.{rest}"].at(cycle):
                wrong.add(rest.split(".")[0])
        flags = {entry.name for entry in inventory(layer.plan.spec)}
        assert {name for name in flags if vcd.signals[f"fault.differs_{name}"].at(cycle)} == wrong
        assert vcd.signals["fault.differs"].at(cycle) == bool(wrong)
        assert vcd.signals["fault.upset"].at(cycle) == (upset.cycle <= cycle <= last)
        assert vcd.signals["fault.cycle"].at(cycle) == cycle


@pytest.mark.parametrize("buffer", ["act_buffer", "wgt_buffer"])
def test_a_struck_buffer_word_is_wrong_until_it_is_loaded_again(ws: Layer, buffer: str) -> None:
    first = ws.vcd(Upset(register=buffer, row=2, col=1, bits=(6,), cycle=2), before=2, after=200)
    name = f"{buffer}.{buffer}_2_1"
    golden, faulty = (first.signals[f"{scope}.{name}"] for scope in ("golden", "faulty"))
    assert golden.at(1, signed=True) == faulty.at(1, signed=True)
    assert faulty.at(2) == golden.at(2) ^ 1 << 6
    if buffer == "act_buffer":
        assert golden.at(2, signed=True) == ws.operands.act[0, 2, 1]
    else:
        # Weights are shifted in the bottom row first.
        assert golden.at(2, signed=True) == ws.operands.wgt[0, 4 - 1 - 2, 1]


def test_a_word_that_is_loaded_again_is_right_again() -> None:
    # Tiles of four folds that don't all fit in half the buffer are loaded anew by each fold.
    tight = layer_on(replace(array_of("ws"), wgt_buffer_rows=8))
    vcd = tight.vcd(Upset(register="wgt_buffer", row=1, col=0, bits=(3,), cycle=1), before=1, after=60)
    flag = vcd.signals["fault.differs_wgt_buffer"]
    assert flag.at(1) == 1
    assert flag.at(vcd.times[-1]) == 0


def test_a_register_that_nothing_reads_is_wrong_for_ever(ws: Layer) -> None:
    vcd = ws.vcd(Upset(register="transposer", row=3, col=2, bits=(7,), cycle=9))
    assert vcd.signals["faulty.transposer.transposer_3_2"].at(8, signed=True) == 0
    assert vcd.signals["faulty.transposer.transposer_3_2"].at(9, signed=True) == -128
    assert vcd.signals["fault.differs_transposer"].at(vcd.times[-1]) == 1
    assert vcd.signals["golden.transposer.transposer_3_2"].at(vcd.times[-1]) == 0


def test_of_the_memories_only_rows_are_dumped_that_are_written_or_differ(ws: Layer) -> None:
    upset = Upset(register="accumulator", row=11, col=2, bits=(1,), cycle=4)
    vcd = ws.vcd(upset, before=1, after=2)
    # Nothing is written so early; the struck row differs.
    assert places(vcd, "golden", "accumulator") == [(11, 0), (11, 1), (11, 2)]
    later = ws.vcd(replace(FAULTS[0], cycle=20), before=5, after=20)
    rows = {row for row, _ in places(later, "golden", "accumulator")}
    writes = {
        later.signals["golden.write_address.write_address_1_0"].at(cycle)
        for cycle in later.times[:-1]
        if later.signals["golden.write_valid.write_valid_1_0"].at(cycle)
    }
    assert rows >= writes
    assert len(rows) < 16


def test_the_window_is_as_long_as_asked_for_and_ends_with_the_layer(ws: Layer) -> None:
    end = ws.plan.window_cycles
    assert ws.vcd(replace(FAULTS[0], cycle=1), before=5, after=0).times == [0, 1, 2]
    assert ws.vcd(FAULTS[0], before=0, after=0).times == [20, 21]
    late = ws.vcd(replace(FAULTS[0], cycle=end - 2), before=0, after=1000)
    assert late.times[-1] == end + 1
    assert late.signals["fault.golden_complete"].at(end) == 1
    assert late.signals["fault.golden_complete"].at(end - 1) == 0


def test_a_hang_goes_on_after_the_golden_run(ws: Layer) -> None:
    stop = Upset(register="seq_active", row=0, col=0, bits=(0,), cycle=15)
    vcd = ws.vcd(stop, after=ws.plan.window_cycles)
    assert vcd.signals["fault.golden_complete"].at(vcd.times[-1]) == 1
    assert vcd.signals["fault.faulty_complete"].at(vcd.times[-1]) == 0
    assert vcd.times[-1] == 15 + ws.plan.window_cycles + 1


@pytest.mark.parametrize(
    ("clock_hz", "timescale", "words"),
    [
        (1e9, "1 ns", "is the clock period, 1 ns at 1000 MHz"),
        (100e6, "10 ns", "is the clock period, 10 ns at 100 MHz"),
        (1e11, "10 ps", "is the clock period, 0.01 ns"),
        (1.0, "1 s", "is the clock period"),
        (700e6, "1 ns", "only the nearest VCD can name to the clock period, 1.42857 ns at 700 MHz"),
    ],
)
def test_a_time_unit_is_a_clock_period_or_the_file_says_what_it_is(
    clock_hz: float, timescale: str, words: str
) -> None:
    vcd = layer_on(replace(array_of("ws"), clock_hz=clock_hz)).vcd(FAULTS[0], before=0, after=0)
    assert vcd.timescale == timescale
    assert words in vcd.comment
    assert "time 40 is cycle 40" in vcd.comment


# ---- a fault in a network


@pytest.fixture(scope="module")
def bench(digits: Any) -> Workbench:
    space = FaultSpace(digits.network, digits.array)
    return Workbench(digits.network, digits.array, space, digits.inputs[:2])


def fault_in(layer: int, cycle: int = 40) -> Fault:
    return Fault(layer=layer, upset=Upset(register="pe_b", row=3, col=2, bits=(7,), cycle=cycle))


def test_a_fault_of_a_network_is_written_the_same_each_time(bench: Workbench, tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("a.vcd", "b.vcd")]
    for file in files:
        assert write_fault_waveform(file, bench, 0, fault_in(0)) == range(40 - 16, 40 + 64 + 33 + 1)
    assert files[0].read_bytes() == files[1].read_bytes()
    vcd = parse(files[0].read_text(encoding="ascii"))
    assert "layer 0 (conv1) of digits_cnn_int8, input 0" in vcd.comment
    assert "layer=0 register=pe_b row=3 col=2 cycle=40 bit=7" in vcd.comment


def test_the_waveform_is_of_the_input_asked_for(bench: Workbench, tmp_path: Path) -> None:
    values = []
    for image in (0, 1):
        write_fault_waveform(tmp_path / "a.vcd", bench, image, fault_in(0), before=0, after=20)
        vcd = parse((tmp_path / "a.vcd").read_text(encoding="ascii"))
        signals = [vcd.signals[f"golden.pe_a.pe_a_{row}_0"] for row in range(9)]
        values.append([signal.at(50, signed=True) for signal in signals])
    assert values[0] != values[1]


def test_a_file_that_cannot_be_written_is_refused(bench: Workbench, tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match=r"nowhere.*can't be written"):
        write_fault_waveform(tmp_path / "nowhere/a.vcd", bench, 0, fault_in(0))
