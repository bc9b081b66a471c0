"""Where every register of the mesh lives in one flat int32 state, and how an Upset becomes a word of it.

Segments, in this order (a new register is one more entry):
  cells   (blocks, rows + 1, 11 registers, LANES)  the PEs; row `rows` holds the output registers
  edge    buf_a (rows), buf_b, buf_d (cols), then one word each: propagate dataflow shift valid tag late_shift
  ring    (depth, lanes)  the skew and deskew stages, as a ring: row t % depth is written in cycle t
  tally   address counter, block that is drained, cycle of the last result row
  memory  (memory_rows, cols)  the accumulator SRAM, or the result rows of a bare program
Columns lie in blocks of LANES, all registers of a block and of the block below at distances that are known
when the kernel is compiled: that is what lets LLVM vectorise the PEs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from emulator.array.spec import ArraySpec
from emulator.array.upset import FLIP, KINDS, Upset
from emulator.errors import BadConfig

LANES = 16

# The registers of a cell, in words from its start; tag is request << 1 | last row of the request.
ACT, PSUM, CHAIN, BANK1, BANK2, PROPAGATE, DATAFLOW, SHIFT, VALID, LAST_PROPAGATE, TAG = (
    np.uint64(index * LANES) for index in range(11)
)
CELL = 11 * LANES

# The control words of the edge, after buf_a, buf_b and buf_d; in the ring `cols` words each, in this order.
EDGE_PROPAGATE, EDGE_DATAFLOW, EDGE_SHIFT, EDGE_VALID, EDGE_TAG, LATE_SHIFT = range(6)

COUNT, DRAINED_BLOCK, LAST_RESULT = range(3)

# Columns of an encoded upset.
ADDRESS, STAGE, MASK, KIND, FIRST, LAST, BITS, SIGNED = range(8)
NOT_IN_RING = -1


class Grid(NamedTuple):
    """What the kernels know of the array: sizes, the mask and lowest value of words as int32, the first word
    of each segment."""

    rows: int
    cols: int
    blocks: int
    psum_mask: int
    psum_low: int
    bank_mask: int
    bank_low: int
    acc_bits: int
    edge: int
    ring: int
    depth: int
    lanes: int
    tally: int
    memory: int
    memory_rows: int
    words: int


def grid(spec: ArraySpec, memory_rows: int) -> Grid:
    """The state of `spec` with `memory_rows` accumulator (or result) rows."""
    blocks = -(-spec.cols // LANES)
    edge = (spec.rows + 1) * blocks * CELL
    ring = edge + spec.rows + 2 * spec.cols + 6
    depth = max(spec.rows, spec.cols)
    lanes = spec.rows + 8 * spec.cols + 2
    tally = ring + depth * lanes
    memory = tally + 3
    # A bank loads a word of the chain or of the MAC, which has psum_bits.
    loaded = min(spec.bank_bits, spec.psum_bits)
    return Grid(
        rows=spec.rows,
        cols=spec.cols,
        blocks=blocks,
        psum_mask=_mask(spec.psum_bits),
        psum_low=-1 << (spec.psum_bits - 1),
        bank_mask=_mask(loaded),
        bank_low=-1 << (loaded - 1),
        acc_bits=spec.acc_bits,
        edge=edge,
        ring=ring,
        depth=depth,
        lanes=lanes,
        tally=tally,
        memory=memory,
        memory_rows=memory_rows,
        words=memory + memory_rows * spec.cols,
    )


def _mask(bits: int) -> int:
    return -1 if bits == 32 else (1 << bits) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A register class of the mesh. `rule` says how (row, col) is read, `start` is its first word in a cell,
    at the edge or in a row of the ring."""

    rule: Literal["cell", "output", "edge", "skew", "deskew", "memory"]
    start: int
    bits: int
    first_row_bits: int
    signed: bool

    def rows(self, g: Grid) -> range:
        """Allowed rows; the index of the line for edge, skew and deskew."""
        match self.rule:
            case "output":
                return range(g.rows, g.rows + 1)
            case "memory":
                return range(g.memory_rows)
            case "cell":
                return range(g.rows)
            case _:
                return range(g.rows if self.start == 0 else g.cols)

    def cols(self, g: Grid, row: int) -> range:
        """Allowed columns; the stages of the line for skew and deskew, 0 is the one nearest the consumer."""
        match self.rule:
            case "edge":
                return range(1)
            case "skew":
                return range(row)
            case "deskew":
                return range(g.cols - 1 - row)
            case _:
                return range(g.cols)

    def locate(self, g: Grid, row: int, col: int) -> tuple[int, int]:
        """(address, stage): stage counts from the producer in the ring, else NOT_IN_RING."""
        match self.rule:
            case "edge":
                return g.edge + self.start + row, NOT_IN_RING
            case "memory":
                return g.memory + row * g.cols + col, NOT_IN_RING
            case "skew":
                return g.ring + self.start + row, row - 1 - col
            case "deskew":
                return g.ring + self.start + row, g.cols - 2 - row - col
            case _:
                block, lane = divmod(col, LANES)
                return (block * (g.rows + 1) + row) * CELL + self.start + lane, NOT_IN_RING

    def width(self, row: int) -> int:
        """Bits of the register in `row`."""
        return self.first_row_bits if row == 0 else self.bits


def segments(spec: ArraySpec) -> dict[str, Segment]:
    """Every register class an upset can name, by name."""
    rows, cols = spec.rows, spec.cols
    act, wgt, psum = spec.act_bits, spec.wgt_bits, spec.psum_bits
    b_lane, d_lane = rows, rows + cols
    control = rows + 2 * cols
    return {
        "pe_a": _cell(ACT, act),
        "pe_b": _cell(PSUM, psum, first_row_bits=act),
        "pe_d": _cell(CHAIN, psum, first_row_bits=wgt),
        "pe_c1": _cell(BANK1, spec.bank_bits),
        "pe_c2": _cell(BANK2, spec.bank_bits),
        "pe_propagate": _cell(PROPAGATE, 1, signed=False),
        "pe_valid": _cell(VALID, 1, signed=False),
        "pe_dataflow": _cell(DATAFLOW, 1, signed=False),
        "pe_shift": _cell(SHIFT, 5, signed=False),
        "pe_last_s": _cell(LAST_PROPAGATE, 1, signed=False),
        "buf_a": _line("edge", 0, act),
        "buf_b": _line("edge", b_lane, act),
        "buf_d": _line("edge", d_lane, wgt),
        "skew_a": _line("skew", 0, act),
        "skew_b": _line("skew", b_lane, act),
        "skew_d": _line("skew", d_lane, wgt),
        "skew_valid": _line("skew", control + EDGE_VALID * cols, 1, signed=False),
        "skew_control_propagate": _line("skew", control + EDGE_PROPAGATE * cols, 1, signed=False),
        "skew_control_dataflow": _line("skew", control + EDGE_DATAFLOW * cols, 1, signed=False),
        "deskew_data": _line("deskew", control + 5 * cols, psum),
        "out_b": _line("output", int(PSUM), psum),
        "out_c": _line("output", int(CHAIN), psum),
        "accumulator": _line("memory", 0, spec.acc_bits),
    }


def _cell(start: np.uint64, bits: int, *, first_row_bits: int = 0, signed: bool = True) -> Segment:
    first = first_row_bits or bits
    return Segment(rule="cell", start=int(start), bits=bits, first_row_bits=first, signed=signed)


def _line(
    rule: Literal["edge", "skew", "deskew", "output", "memory"], start: int, bits: int, *, signed: bool = True
) -> Segment:
    return Segment(rule=rule, start=start, bits=bits, first_row_bits=bits, signed=signed)


def check_upset(spec: ArraySpec, upset: Upset) -> None:
    """Raise BadConfig where `upset` names no register, place or bit of `spec`."""
    _check(spec, segments(spec), grid(spec, spec.acc_rows), upset)


def _check(spec: ArraySpec, known: dict[str, Segment], g: Grid, upset: Upset) -> None:
    if upset.register not in known:
        raise BadConfig(
            f"Upset: register={upset.register!r}; allowed: {', '.join(known)}. "
            f"Choose one of the array {spec.name!r}."
        )
    segment = known[upset.register]
    _check_range(upset, "row", upset.row, segment.rows(g))
    _check_range(upset, "col", upset.col, segment.cols(g, upset.row))
    for bit in upset.bits:
        _check_range(upset, "bits", bit, range(segment.width(upset.row)))


def _check_range(upset: Upset, field: str, value: int, allowed: range) -> None:
    if value in allowed:
        return
    span = f"{allowed.start} to {allowed.stop - 1}" if allowed else "none, the line has no stages"
    raise BadConfig(f"{upset}: {field} {value}; allowed: {span}. Change {field} or the array.")


def encode_upsets(spec: ArraySpec, g: Grid, upsets: Sequence[Upset]) -> npt.NDArray[np.int64]:
    """(upsets, 8) int64, the columns named above; raises BadConfig for a place outside the array."""
    known = segments(spec)
    table = np.empty((len(upsets), 8), np.int64)
    for entry, upset in zip(table, upsets, strict=True):
        _check(spec, known, g, upset)
        segment = known[upset.register]
        address, stage = segment.locate(g, upset.row, upset.col)
        last = upset.until_cycle if upset.until_cycle is not None else np.iinfo(np.int64).max
        entry[ADDRESS], entry[STAGE] = address, stage
        entry[MASK] = sum(1 << bit for bit in upset.bits)
        entry[KIND] = KINDS.index(upset.kind)
        entry[FIRST] = upset.cycle
        entry[LAST] = upset.cycle if upset.kind == FLIP else last
        entry[BITS], entry[SIGNED] = segment.width(upset.row), segment.signed
    return table
