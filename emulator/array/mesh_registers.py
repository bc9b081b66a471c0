"""Entries of the register inventory: PEs, edges and skew, outputs and deskew (docs/machine.md sections 2 to 4)."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from emulator.array.exposure.cells import Computing, Shifting
from emulator.array.exposure.flow import Flow, Moving
from emulator.array.exposure.lifetime import Always, Dead, Lifetime, Union
from emulator.array.home import (
    Cell,
    Deskew,
    Edge,
    Skew,
)
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
    SHIFT_LSB,
    VALID_LSB,
)
from emulator.array.spec import ArraySpec

# Fields of a Register.
Entry = dict[str, Any]


def cells(spec: ArraySpec) -> list[Entry]:
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


def edges(spec: ArraySpec) -> list[Entry]:
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


def outputs(spec: ArraySpec) -> list[Entry]:
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
