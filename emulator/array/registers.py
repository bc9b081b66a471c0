"""The register inventory: name, geometry, width, lifetime, home. One entry drives the fault space, the engines,
the documentation and the reports: a new register is one more line here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from emulator.array.exposure.cells import Computing, Shifting
from emulator.array.exposure.flow import Flow, Moving
from emulator.array.exposure.lifetime import Always, Dead, Lifetime, Requantising, Union
from emulator.array.exposure.memory import AccumulatorWord, BufferWord
from emulator.array.home import (
    IN_ACT_BUFFER,
    IN_WGT_BUFFER,
    Buffer,
    Cell,
    Deskew,
    Edge,
    Home,
    Memory,
    RequantControl,
    ResultStage,
    Single,
    Skew,
    Tag,
    Unread,
    Wide,
)
from emulator.array.host import ACT_BUFFER, WGT_BUFFER
from emulator.array.layout import (
    ACT,
    BANK1,
    BANK2,
    CHAIN,
    DATAFLOW_LSB,
    EDGE_FLAGS,
    FLAGS,
    ID_LSB,
    LAST_LSB,
    LAST_PROPAGATE_LSB,
    LATE_SHIFT,
    PROPAGATE_LSB,
    PSUM,
    RESULT_STAGES,
    SHIFT_LSB,
    TAG_ACCUMULATE,
    TAG_BASE,
    TAG_BIAS,
    TAG_FINAL,
    TAG_KEPT,
    TAG_RESULT,
    VALID_LSB,
    Control,
    Rows,
    address_bits,
)
from emulator.array.spec import ArraySpec
from emulator.array.tiling import WRITE_CYCLES
from emulator.array.upset import Upset
from emulator.errors import BadConfig

Ints = npt.NDArray[np.int64]
Storage = Literal["flip-flop", "sram"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Register:
    """A class of equal registers: lines[r] of them in row first_row + r; row 0 may be narrower. lsb: the bit of
    the state's word at which the register begins."""

    name: str
    code: int
    lines: tuple[int, ...]
    bits: int
    lifetime: Lifetime
    home: Home
    meaning: str
    first_row_bits: int
    first_row: int = 0
    signed: bool = False
    lsb: int = 0
    storage: Storage = "flip-flop"

    @cached_property
    def _ends(self) -> Ints:
        """Bits before each row, and in all."""
        widths = np.full(len(self.lines), self.bits, np.int64)
        widths[: 1 - self.first_row] = self.first_row_bits
        return np.concatenate(([0], np.cumsum(widths * np.array(self.lines, np.int64))))

    @property
    def count(self) -> int:
        """Registers of the class."""
        return sum(self.lines)

    @property
    def total_bits(self) -> int:
        """Bits of the whole class."""
        return int(self._ends[-1])

    def width(self, row: int) -> int:
        """Bits of one register in `row`."""
        return self.first_row_bits if row == 0 else self.bits

    def place(self, index: Ints) -> tuple[Ints, Ints, Ints]:
        """index in [0, total_bits) to (row, col, bit)."""
        line = np.searchsorted(self._ends, index, side="right") - 1
        row = line + self.first_row
        width = np.where(row == 0, self.first_row_bits, self.bits)
        word = index - self._ends[line]
        return row, word // width, word % width

    def index(self, row: Ints, col: Ints, bit: Ints) -> Ints:
        """The inverse of `place`."""
        width = np.where(row == 0, self.first_row_bits, self.bits)
        return self._ends[row - self.first_row] + col * width + bit

    def check_place(self, row: int, col: int, bits: Sequence[int]) -> str | None:
        """What is wrong with a place, None if nothing is."""
        rows = range(self.first_row, self.first_row + len(self.lines))
        cols = range(self.lines[row - self.first_row]) if row in rows else range(0)
        for field, value, allowed in (
            ("row", row, rows),
            ("col", col, cols),
            *(("bits", bit, range(self.width(row))) for bit in bits),
        ):
            if value not in allowed:
                span = f"{allowed.start} to {allowed.stop - 1}" if allowed else "none, the line has no stages"
                return f"{field} {value}; allowed: {span}"
        return None


@lru_cache(maxsize=64)
def inventory(spec: ArraySpec) -> tuple[Register, ...]:
    """Every register class of `spec`, in the order of their codes."""
    entries = [
        *_cells(spec),
        *_edges(spec),
        *_outputs(spec),
        *_sequencer(spec),
        *_results(spec),
        *_memories(spec),
    ]
    if spec.dataflows == "ws":
        entries = [entry for entry in entries if entry["name"] not in _BOTH_ONLY]
    return tuple(
        Register(**{"first_row_bits": entry["bits"], **entry}, code=code)
        for code, entry in enumerate(entries)
    )


# A weight-stationary build has no use for these.
_BOTH_ONLY = (
    *(
        "pe_dataflow",
        "pe_shift",
        "pe_last_s",
        "buf_dataflow",
        "buf_shift",
        "late_shift",
        "skew_control_dataflow",
    ),
    *("skew_control_shift", "out_c", "out_dataflow", "seq_dataflow", "seq_shift"),
)


def register(spec: ArraySpec, name: str) -> Register:
    """The register class called `name`; raises BadConfig with the list of names."""
    found = _by_name(spec).get(name)
    if found is None:
        raise BadConfig(
            f"register {name!r} is not in the array {spec.name!r}; allowed: {', '.join(_by_name(spec))}."
        )
    return found


@lru_cache(maxsize=64)
def _by_name(spec: ArraySpec) -> dict[str, Register]:
    return {entry.name: entry for entry in inventory(spec)}


def check_upset(spec: ArraySpec, upset: Upset) -> None:
    """Raise BadConfig where `upset` names no register, place or bit of `spec`."""
    wrong = register(spec, upset.register).check_place(upset.row, upset.col, upset.bits)
    if wrong is not None:
        raise BadConfig(f"{upset}: {wrong}. Change it or the array.")


# ---- the inventory, group by group

Entry = dict[str, Any]


def _cells(spec: ArraySpec) -> list[Entry]:
    grid = (spec.cols,) * spec.rows
    os = spec.dataflow == "os"
    act, wgt, psum, edge, bank = spec.act_bits, spec.wgt_bits, spec.psum_bits, spec.edge_bits, spec.bank_bits
    always, edge_only = Always(grid, 1), Always(grid, 1, columns=1)

    def data(name: str, start: np.uint64, bits: int, lifetime: Lifetime, meaning: str) -> Entry:
        first = edge if name in ("pe_b", "pe_d") else bits
        return {
            "name": name,
            "lines": grid,
            "bits": bits,
            "first_row_bits": first,
            "signed": True,
            "home": Cell(int(start)),
            "lifetime": lifetime,
            "meaning": meaning,
        }

    def flag(name: str, lsb: int, bits: int, lifetime: Lifetime, meaning: str) -> Entry:
        return {
            "name": name,
            "lines": grid,
            "bits": bits,
            "lsb": lsb,
            "home": Cell(int(FLAGS)),
            "lifetime": lifetime,
            "meaning": meaning,
        }

    if os:
        passing: Lifetime = Computing(wgt, wgt)
        chain: Lifetime = Union((Shifting(True, False, psum, edge), Shifting(True, True, psum, psum)))
        banks = [_output_bank(psum, bank, which) for which in (0, 1)]
    else:
        passing = Computing(psum, edge, all_rows=True)
        chain = Shifting(True, False, wgt, wgt)
        banks = [_weight_bank(wgt, which) for which in (0, 1)]
    return [
        data("pe_a", ACT, act, Computing(act, act), "activation travelling right"),
        data("pe_b", PSUM, psum, passing, "partial sum (WS) or weight (OS) travelling down"),
        data("pe_d", CHAIN, psum, chain, "shift chain of the bank that is not in use, travelling down"),
        data("pe_c1", BANK1, bank, banks[0], "stationary word 1: weight (WS) or accumulator (OS)"),
        data("pe_c2", BANK2, bank, banks[1], "stationary word 2, in use every other tile"),
        flag("pe_propagate", PROPAGATE_LSB, 1, always, "which bank is in use"),
        flag("pe_valid", VALID_LSB, 1, always, "a row is in this PE"),
        flag("pe_dataflow", DATAFLOW_LSB, 1, always, "weight- or output-stationary"),
        flag(
            "pe_shift",
            SHIFT_LSB,
            5,
            Always(grid, 5) if os else Dead(),
            "right shift of a result on its way out",
        ),
        flag("pe_last_s", LAST_PROPAGATE_LSB, 1, always if os else Dead(), "propagate of the row before"),
        flag("pe_id", ID_LSB, spec.id_bits, Always(grid, spec.id_bits, columns=1), "the row's request"),
        flag("pe_last", LAST_LSB, 1, edge_only, "last row of its request"),
    ]


def _weight_bank(bits: int, bank: int) -> Lifetime:
    return Union((Computing(bits, bits, bank=bank), Shifting(False, False, bits, bits, bank)))


def _output_bank(psum: int, bits: int, bank: int) -> Lifetime:
    return Union(
        (
            Computing(psum, psum, padded=True, bank=bank),
            Shifting(False, False, bits, bits, bank),
            Shifting(False, True, bits, bits, bank),
        )
    )


def _edges(spec: ArraySpec) -> list[Entry]:
    rows, cols, os = spec.rows, spec.cols, spec.dataflow == "os"
    act, wgt, edge, ids = spec.act_bits, spec.wgt_bits, spec.edge_bits, spec.id_bits
    control = rows + 2 * cols
    # What enters at b: partial sums, or the weights of an output-stationary array; at d the other.
    b: tuple[Moving, int] = ("stream", wgt) if os else ("stream", edge)
    d: tuple[Moving, int] = ("preload", edge) if os else ("preload", wgt)
    act_lines, col_lines = tuple(range(rows)), tuple(range(cols))

    def line(name: str, start: int, width: int, live: int, moving: Moving, meaning: str) -> list[Entry]:
        by_row = name == "a"
        size, stages = (rows, act_lines) if by_row else (cols, col_lines)
        limit: Literal["rows", "cols"] = "rows" if by_row else "cols"
        entry = {"bits": width, "signed": True, "meaning": meaning}
        return [
            {
                **entry,
                "name": f"buf_{name}",
                "lines": (1,) * size,
                "home": Edge(start),
                "lifetime": Flow(moving, limit, (1,) * size, live, 1),
            },
            {
                **entry,
                "name": f"skew_{name}",
                "lines": stages,
                "home": Skew(start),
                "lifetime": Flow(moving, limit, stages, live, 1, skewed=1),
            },
        ]

    def single(name: str, word: int, lsb: int, bits: int, dead: bool, meaning: str) -> Entry:
        life: Lifetime = Dead() if dead else Always((1,), bits)
        return {
            "name": name,
            "lines": (1,),
            "bits": bits,
            "lsb": lsb,
            "home": Edge(control + word),
            "lifetime": life,
            "meaning": meaning,
        }

    def stages(name: str, lsb: int, bits: int, columns: int | None, dead: bool) -> Entry:
        life: Lifetime = Dead() if dead or columns == 0 else Always(col_lines, bits, columns=columns)
        return {
            "name": name,
            "lines": col_lines,
            "bits": bits,
            "lsb": lsb,
            "home": Skew(control),
            "lifetime": life,
            "meaning": "skew of a control bit",
        }

    return [
        *line("a", 0, act, act, "stream", "activation at the edge and in the skew"),
        *line("b", rows, edge, b[1], b[0], "partial sum (WS) or weight (OS) at the edge and in the skew"),
        *line("d", rows + cols, edge, d[1], d[0], "word to preload at the edge and in the skew"),
        single("buf_propagate", EDGE_FLAGS, PROPAGATE_LSB, 1, False, "which bank is in use"),
        single("buf_dataflow", EDGE_FLAGS, DATAFLOW_LSB, 1, False, "weight- or output-stationary"),
        single("buf_valid", EDGE_FLAGS, VALID_LSB, 1, False, "a row is at the edge"),
        single("buf_shift", EDGE_FLAGS, SHIFT_LSB, 5, not os, "right shift of a result"),
        single("late_shift", LATE_SHIFT, 0, 5, not os, "the shift, one row earlier"),
        single("buf_id", EDGE_FLAGS, ID_LSB, ids, False, "the row's request"),
        single("buf_last", EDGE_FLAGS, LAST_LSB, 1, False, "last row of its request"),
        stages("skew_valid", VALID_LSB, 1, None, False),
        stages("skew_control_propagate", PROPAGATE_LSB, 1, None, False),
        stages("skew_control_dataflow", DATAFLOW_LSB, 1, None, False),
        stages("skew_control_shift", SHIFT_LSB, 5, None, not os),
        # Column 0, the only one whose tag is read, has no stages.
        stages("skew_control_id", ID_LSB, ids, 0, True),
        stages("skew_control_last", LAST_LSB, 1, 0, True),
    ]


def _outputs(spec: ArraySpec) -> list[Entry]:
    rows, cols, psum, ids = spec.rows, spec.cols, spec.psum_bits, spec.id_bits
    os, width, lag = spec.dataflow == "os", (spec.cols,), spec.drain_cycles
    deskew_lane = rows + 3 * cols
    bus = Flow("result", "cols", (1,) * cols, psum, rows + 2, skewed=1, across=True, first_row=rows)

    def output(
        name: str, start: np.uint64, bits: int, life: Lifetime, lsb: int = 0, signed: bool = False
    ) -> Entry:
        return {
            "name": name,
            "lines": width,
            "first_row": rows,
            "bits": bits,
            "lsb": lsb,
            "signed": signed,
            "home": Cell(int(start)),
            "lifetime": life,
            "meaning": "below the last row, ungated",
        }

    def tag(name: str, lsb: int, bits: int) -> Entry:
        return {
            "name": name,
            "lines": (cols - 1,),
            "bits": bits,
            "lsb": lsb,
            "home": Deskew(deskew_lane + cols),
            "lifetime": Always((cols - 1,), bits) if cols > 1 else Dead(),
            "meaning": "deskew of column 0's tag",
        }

    def once(bits: int) -> Lifetime:
        return Always(width, bits, first_row=rows, columns=1)

    stages = tuple(range(cols - 1, -1, -1))
    return [
        output("out_b", PSUM, psum, Dead() if os else bus, signed=True),
        output("out_c", CHAIN, psum, bus if os else Dead(), signed=True),
        output("out_dataflow", FLAGS, 1, once(1), lsb=DATAFLOW_LSB),
        output("out_valid", FLAGS, 1, once(1), lsb=VALID_LSB),
        output("out_id", FLAGS, ids, once(ids), lsb=ID_LSB),
        output("out_last", FLAGS, 1, once(1), lsb=LAST_LSB),
        {
            "name": "deskew_data",
            "lines": stages,
            "bits": psum,
            "signed": True,
            "home": Deskew(deskew_lane),
            "meaning": "result on its way to the accumulator",
            "lifetime": Flow("result", "cols", stages, psum, lag),
        },
        tag("deskew_valid", VALID_LSB, 1),
        tag("deskew_id", ID_LSB, ids),
        tag("deskew_last", LAST_LSB, 1),
    ]


def _sequencer(spec: ArraySpec) -> list[Entry]:
    ids, entries, os = spec.id_bits, 1 << spec.id_bits, spec.dataflow == "os"

    def single(name: str, control: Control, bits: int, meaning: str, dead: bool = False) -> Entry:
        life: Lifetime = Dead() if dead else Always((1,), bits)
        return {
            "name": name,
            "lines": (1,),
            "bits": bits,
            "home": Single(control),
            "lifetime": life,
            "meaning": meaning,
        }

    def tag(name: str, field: int, bits: int, meaning: str) -> Entry:
        lines = (1,) * entries
        return {
            "name": name,
            "lines": lines,
            "bits": bits,
            "home": Tag(field),
            "lifetime": Always(lines, bits),
            "meaning": meaning,
        }

    act_bits, wgt_bits = address_bits(spec.act_buffer_rows), address_bits(spec.wgt_buffer_rows)
    return [
        single("seq_active", Control.SEQ_ACTIVE, 1, "a request is being fired"),
        single("seq_row", Control.SEQ_ROW, spec.row_bits, "row of the request that is fired next"),
        single("seq_pc", Control.SEQ_PC, 24, "request that is loaded next"),
        single("in_prop", Control.IN_PROP, 1, "which bank is in use"),
        single("seq_id", Control.SEQ_ID, ids, "id of the request"),
        single("seq_dataflow", Control.SEQ_DATAFLOW, 1, "dataflow of the request"),
        single("seq_shift", Control.SEQ_SHIFT, 5, "right shift of the request", dead=not os),
        single("seq_act_on", Control.SEQ_ACT_ON, 1, "read the activation buffer, else zeros"),
        single("seq_act_address", Control.SEQ_ACT_ADDRESS, act_bits, "buffer row of the request's first row"),
        single("seq_wgt_on", Control.SEQ_WGT_ON, 1, "read the weight buffer, else zeros"),
        single("seq_wgt_address", Control.SEQ_WGT_ADDRESS, wgt_bits, "buffer row of the request's first row"),
        tag("tag_result", TAG_RESULT, 1, "rows of this id are results"),
        tag("tag_base", TAG_BASE, spec.acc_address_bits, "accumulator row of the first result row"),
        tag("tag_kept", TAG_KEPT, spec.row_bits + 1, "result rows that are kept"),
        tag(
            "tag_accumulate", TAG_ACCUMULATE, 1, "add to the accumulator, else overwrite with the bias added"
        ),
        tag("tag_final", TAG_FINAL, 1, "the last row completes a block"),
        tag("tag_bias", TAG_BIAS, 16, "bias row"),
        single("result_count", Control.RESULT_COUNT, spec.row_bits, "result rows so far, modulo the rows"),
    ]


def _results(spec: ArraySpec) -> list[Entry]:
    cols, acc, lag = spec.cols, spec.acc_bits, spec.drain_cycles
    width, stages = (cols,), RESULT_STAGES
    bytes_ = -(-acc // 8)

    def out(moving: Moving, bits: int, delay: int, depth: int = 1) -> Lifetime:
        ageing = -1 if depth > 1 else 0
        flow = Flow(moving, "cols", (depth,) * cols, bits, delay, ageing=ageing, across=True)
        return Requantising(flow) if moving == "drained" else flow

    def wide(name: str, rows: Rows, bits: int, life: Lifetime, meaning: str, signed: bool = True) -> Entry:
        return {
            "name": name,
            "lines": width,
            "bits": bits,
            "signed": signed,
            "home": Wide(rows),
            "lifetime": life,
            "meaning": meaning,
        }

    def control(name: str, home: Home, count: int, bits: int, meaning: str) -> Entry:
        lines = (1,) * count
        life = Always(lines, bits)
        return {
            "name": name,
            "lines": lines,
            "bits": bits,
            "home": home,
            "lifetime": Requantising(life) if isinstance(home, RequantControl) else life,
            "meaning": meaning,
        }

    mask = wide(
        "write_mask", Rows.WRITE_MASK, bytes_, out("result", bytes_, lag + 1, 2), "bytes to write", False
    )
    if spec.requantiser == "float32":
        scales = [("requant_scale", Rows.REQUANT_SCALE, 32, False, "float32 scale latched with a row")]
    else:
        scales = [
            ("requant_multiplier", Rows.REQUANT_SCALE, 32, True, "int32 multiplier latched with a row"),
            ("requant_shift", Rows.REQUANT_SHIFT, 5, False, "right shift latched with a row"),
        ]
    result = {
        "name": "requant_result",
        "lines": width * stages,
        "bits": spec.act_bits,
        "signed": True,
        "home": ResultStage(),
        "meaning": "requantised word on its way out",
        "lifetime": out("drained", spec.act_bits, 2, stages),
    }
    return [
        control("write_valid", Single(Control.WRITE_VALID), 2, 1, "a row is written"),
        control("write_address", Single(Control.WRITE_ADDRESS), 2, spec.acc_address_bits, "accumulator row"),
        control("write_final", Single(Control.WRITE_FINAL), 2, 1, "this row completes a block"),
        control("write_accumulate", Single(Control.WRITE_ACCUMULATE), 1, 1, "add, else overwrite"),
        {**mask, "lines": width * 2},
        wide(
            "write_data",
            Rows.WRITE_DATA,
            spec.psum_bits,
            out("result", spec.psum_bits, lag + 1),
            "result row",
        ),
        wide("write_bias", Rows.WRITE_BIAS, acc, out("first result", acc, lag + 1), "bias of the row"),
        wide("write_sum", Rows.WRITE_SUM, acc, out("result", acc, lag + WRITE_CYCLES - 1), "sum to write"),
        control("blocks_done", Single(Control.BLOCKS_DONE), 1, 16, "blocks complete"),
        control("drain_block", Single(Control.DRAIN_BLOCK), 1, 16, "block that is drained next"),
        control(
            "drain_row", Single(Control.DRAIN_ROW), 1, spec.acc_address_bits, "its row that is drained next"
        ),
        wide("requant_acc", Rows.REQUANT_ACC, acc, out("drained", acc, 1), "accumulator row to requantise"),
        *(wide(n, r, bits, out("drained", bits, 1), text, sign) for n, r, bits, sign, text in scales),
        result,
        control(
            "requant_valid", RequantControl(Control.REQUANT_VALID, 1), stages + 1, 1, "a row is in the stage"
        ),
        control(
            "requant_row", RequantControl(Control.REQUANT_ROW, 0), stages + 1, 24, "output row in the stage"
        ),
    ]


def _memories(spec: ArraySpec) -> list[Entry]:
    rows, cols = spec.rows, spec.cols
    memories: tuple[tuple[str, int, int, int, Home, Lifetime, str], ...] = (
        *(
            (
                *("accumulator", spec.acc_rows, cols, spec.acc_bits, Memory()),
                *(AccumulatorWord(spec.acc_bits), "running sum of the K loop"),
            ),
            (
                *("act_buffer", spec.act_buffer_rows, rows, spec.act_bits, Buffer(IN_ACT_BUFFER)),
                *(BufferWord(ACT_BUFFER, spec.act_bits), "activations to stream"),
            ),
            (
                *("wgt_buffer", spec.wgt_buffer_rows, cols, spec.wgt_bits, Buffer(IN_WGT_BUFFER)),
                *(BufferWord(WGT_BUFFER, spec.wgt_bits), "weights to preload or stream"),
            ),
        ),
    )
    entries: list[Entry] = [
        {
            "name": name,
            "lines": (width,) * count,
            "bits": bits,
            "signed": True,
            "storage": "sram",
            "home": home,
            "lifetime": life,
            "meaning": meaning,
        }
        for name, count, width, bits, home, life, meaning in memories
    ]
    unused = {"home": Unread(), "lifetime": Dead(), "meaning": "transposes an operand on the fly; not used"}
    transposer = {"name": "transposer", "lines": (rows,) * rows, "bits": spec.act_bits, "signed": True}
    return [
        *entries,
        {**transposer, **unused},
        {"name": "transposer_control", "lines": (5,), "bits": 1, **unused},
    ]
