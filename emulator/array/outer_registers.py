"""Entries of the register inventory: sequencer, accumulator, requantiser, memory (docs/machine.md, sections 5-8)."""

from __future__ import annotations

from typing import Any

from emulator.array.exposure.flow import Flow, Moving
from emulator.array.exposure.lifetime import Always, Dead, Lifetime, Requantising
from emulator.array.exposure.memory import AccumulatorWord, BufferWord
from emulator.array.home import (
    IN_ACT_BUFFER,
    IN_WGT_BUFFER,
    Buffer,
    Home,
    Memory,
    RequantControl,
    ResultStage,
    Single,
    Tag,
    Unread,
    Wide,
)
from emulator.array.host import ACT_BUFFER, WGT_BUFFER
from emulator.array.layout import (
    RESULT_STAGES,
    TAG_ACCUMULATE,
    TAG_BASE,
    TAG_BIAS,
    TAG_FINAL,
    TAG_KEPT,
    TAG_RESULT,
    Control,
    Rows,
    address_bits,
)
from emulator.array.spec import ArraySpec
from emulator.array.tiling import WRITE_CYCLES

# Fields of a Register.
Entry = dict[str, Any]


def sequencer(spec: ArraySpec) -> list[Entry]:
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


def results(spec: ArraySpec) -> list[Entry]:
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


def memories(spec: ArraySpec) -> list[Entry]:
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
