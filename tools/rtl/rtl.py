"""The Verilated array from Python: load a program, run it with upsets, or run a checkpointed campaign."""

import ctypes
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from build import Parameters, build
from numpy.typing import NDArray

Int16 = NDArray[np.int16]
Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]
Uint32 = NDArray[np.uint32]

FLIP, STUCK_AT_0, STUCK_AT_1 = range(3)
ERRORS = {
    1: "no such register",
    2: "no such place in the register",
    3: "the mask is wider than the register",
    4: "no such kind of upset",
    5: "bad program",
    6: "no program loaded",
}
# An array is read directly by the C side: field order and layout are those of harness.cpp.
UPSET = np.dtype(
    [(name, np.int32) for name in ("reg", "row", "col", "kind")]
    + [("mask", np.uint64), ("first", np.int64), ("last", np.int64)]
)
OUTCOME = np.dtype(
    [(name, np.int64) for name in ("accumulators", "outputs", "last_result", "completion", "stopped")]
    + [("complete", np.int32), ("reserved", np.int32)]
)

TABLES = "requests loads act_source wgt_source stream bias scale shift blocks"
COUNTS = "requests loads act_source wgt_source stream bias scale blocks out_rows cycles"
SCALARS = "os bias_tiled scale_step requantised zero_point low high initial"


class RtlError(ValueError):
    """The harness refused what it was given."""


def _no_rows() -> Any:
    """The default of every table."""
    return np.zeros((0, 0), np.int64)


@dataclass(frozen=True, kw_only=True)
class Program:
    """A program and its host memories (docs/machine.md sections 5 to 8). C columns, R rows.

    requests: int64 (n, 13), in the order toggle, dataflow, shift, act_on, act_address, wgt_on, wgt_address, result,
    base, kept, accumulate, final, bias. loads: int64 (n, 4), cycle, buffer (0 act, 1 wgt), buffer row, source row.
    act_source: int16 (n, R); wgt_source: int16 (n, C); stream, bias: int32 (n, C); scale: uint32 (n, C), float32 bits
    or multipliers; shift: uint32 like scale, fixed-point builds only. blocks: int64 (K, 4), base, rows, out_row,
    scale row. bias_tiled, scale_step, requantised: those of sections 6 and 7. initial: every word of the accumulator
    memory at the start. cycles: the cycle limit.
    """

    requests: Int64
    cycles: int
    loads: Int64 = field(default_factory=_no_rows)
    act_source: Int16 = field(default_factory=_no_rows)
    wgt_source: Int16 = field(default_factory=_no_rows)
    stream: Int32 = field(default_factory=_no_rows)
    bias: Int32 = field(default_factory=_no_rows)
    scale: Uint32 = field(default_factory=_no_rows)
    shift: Uint32 = field(default_factory=_no_rows)
    blocks: Int64 = field(default_factory=_no_rows)
    out_rows: int = 0
    os: bool = False
    bias_tiled: bool = False
    scale_step: int = 0
    requantised: bool = True
    zero_point: int = 0
    low: int = -128
    high: int = 127
    initial: int = 0


@dataclass(frozen=True, kw_only=True)
class Upset:
    """One upset: a flip in cycle `first`, or a stuck-at from cycle `first` to `last`, both included."""

    register: str
    row: int
    col: int
    mask: int
    first: int
    last: int = 0
    kind: int = FLIP


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a run leaves: observed and output int32 (out_rows, C), accumulator int32 (ACC_ROWS, C)."""

    observed: Int32
    output: Int32
    accumulator: Int32
    last_result: int
    complete: bool
    completion: int


class _Program(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_void_p) for name in TABLES.split()),
        *((f"n_{name}", ctypes.c_int64) for name in COUNTS.split()),
        *((name, ctypes.c_int32) for name in SCALARS.split()),
    ]


class _Result(ctypes.Structure):
    _fields_ = [
        ("last_result", ctypes.c_int64),
        ("completion", ctypes.c_int64),
        ("complete", ctypes.c_int32),
        ("reserved", ctypes.c_int32),
    ]


def _library(path: Path) -> ctypes.CDLL:
    """The shared library with the types of its functions."""
    lib = ctypes.CDLL(str(path))
    handle, pointer, integer, long = ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_int64
    for name, result, arguments in (
        ("rtl_create", handle, []),
        ("rtl_destroy", None, [handle]),
        ("rtl_registers", integer, [handle]),
        ("rtl_name", ctypes.c_char_p, [handle, integer]),
        ("rtl_register", integer, [handle, ctypes.c_char_p]),
        ("rtl_width", integer, [handle, integer, integer, integer]),
        ("rtl_places", None, [handle, integer, pointer]),
        ("rtl_load", integer, [handle, pointer]),
        ("rtl_run", integer, [handle, pointer, long, long]),
        ("rtl_result", None, [handle, pointer, pointer, pointer, pointer]),
        ("rtl_read", integer, [handle, integer, integer, integer, pointer]),
        ("rtl_campaign", integer, [handle, long, pointer, long, pointer]),
        ("rtl_time", ctypes.c_double, [handle, long]),
    ):
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
    return lib


def _check(code: int) -> None:
    if code != 0:
        raise RtlError(ERRORS.get(code, f"error {code}"))


def _table(values: NDArray[Any], dtype: str, width: int, name: str) -> NDArray[Any]:
    """A contiguous (n, width) table; an empty one may have any width."""
    table = np.ascontiguousarray(values, dtype)
    if table.ndim != 2 or (len(table) and table.shape[1] != width):
        raise RtlError(f"{name} has shape {table.shape}, not (n, {width})")
    return table


class Rtl:
    """One array; several may live at once, also of different parameters."""

    def __init__(self, parameters: Parameters | None = None, library: Path | None = None) -> None:
        self.parameters = parameters or Parameters()
        self._lib = _library(library or build(self.parameters))
        self._handle = self._lib.rtl_create()
        self._out_rows = 0
        self._cycles = 0

    def close(self) -> None:
        """Frees the array."""
        if self._handle:
            self._lib.rtl_destroy(self._handle)
            self._handle = None

    def __enter__(self) -> "Rtl":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def registers(self) -> list[str]:
        """The names of all registers and memories; the index is the id."""
        count = self._lib.rtl_registers(self._handle)
        return [self._lib.rtl_name(self._handle, i).decode() for i in range(count)]

    def register(self, name: str) -> int:
        """The id of a register, -1 if there is none of that name."""
        return int(self._lib.rtl_register(self._handle, name.encode()))

    def width(self, name: str, row: int, col: int) -> int:
        """The bits of a register at a place, 0 where there is none."""
        return int(self._lib.rtl_width(self._handle, self.register(name), row, col))

    def places(self, name: str) -> list[tuple[int, int]]:
        """Every (row, col) of a register."""
        register = self.register(name)
        if register < 0:
            raise RtlError(f"no register {name}")
        shape = np.zeros(3, np.int32)
        self._lib.rtl_places(self._handle, register, shape.ctypes.data)
        first, rows, cols = (int(n) for n in shape)
        grid = ((r, c) for r in range(first, first + rows) for c in range(cols))
        return [(r, c) for r, c in grid if self.width(name, r, c)]

    def load(self, program: Program) -> None:
        """Takes a program; everything is copied."""
        size = self.parameters
        rows, cols = size.rows, size.cols
        types = "i8 i8 i2 i2 i4 i4 u4 u4 i8".split()
        kinds = zip(TABLES.split(), types, (13, 4, rows, cols, cols, cols, cols, cols, 4), strict=True)
        tables = {name: _table(getattr(program, name), dtype, width, name) for name, dtype, width in kinds}
        if size.fixed_point and tables["shift"].shape != tables["scale"].shape:
            raise RtlError("shift and scale have different shapes")
        counts = [len(table) for name, table in tables.items() if name != "shift"]
        scalars = [int(getattr(program, name)) for name in SCALARS.split()]
        numbers = [*counts, program.out_rows, program.cycles, *scalars]
        given = _Program(*(table.ctypes.data for table in tables.values()), *numbers)
        _check(self._lib.rtl_load(self._handle, ctypes.byref(given)))
        self._out_rows, self._cycles = program.out_rows, program.cycles

    def upsets(self, upsets: list[Upset]) -> NDArray[np.void]:
        """The table of upsets the C side takes, dtype UPSET."""
        table = np.zeros(len(upsets), UPSET)
        for i, u in enumerate(upsets):
            table[i] = (self.register(u.register), u.row, u.col, u.kind, u.mask, u.first, u.last)
        return table

    def _upsets(self, upsets: list[Upset] | NDArray[np.void]) -> NDArray[np.void]:
        return self.upsets(upsets) if isinstance(upsets, list) else np.ascontiguousarray(upsets, UPSET)

    def run(self, upsets: list[Upset] | NDArray[np.void] | None = None, until: int | None = None) -> Result:
        """Runs the program with these upsets to its end, or to the start of cycle `until` (its upsets applied)."""
        table = self._upsets([] if upsets is None else upsets)
        last = self._cycles if until is None else until
        _check(self._lib.rtl_run(self._handle, table.ctypes.data, len(table), last))
        cols, acc_rows = self.parameters.cols, self.parameters.acc_rows
        observed, output = (np.empty((self._out_rows, cols), np.int32) for _ in range(2))
        accumulator = np.empty((acc_rows, cols), np.int32)
        found = _Result()
        arrays = (array.ctypes.data for array in (observed, output, accumulator))
        self._lib.rtl_result(self._handle, *arrays, ctypes.byref(found))
        return Result(
            observed=observed,
            output=output,
            accumulator=accumulator,
            last_result=found.last_result,
            complete=bool(found.complete),
            completion=found.completion,
        )

    def read(self, name: str, row: int = 0, col: int = 0) -> int:
        """A register as the last run left it, sign-extended where it is signed."""
        value = ctypes.c_int64()
        _check(self._lib.rtl_read(self._handle, self.register(name), row, col, ctypes.byref(value)))
        return value.value

    def checkpointed(self, upsets: list[Upset] | NDArray[np.void], interval: int = 8) -> NDArray[np.void]:
        """One run an upset, each from the nearest snapshot, stopped when the rest must be golden. dtype OUTCOME (n,).

        A snapshot of all registers is kept every `interval` cycles. accumulators: observed words (accumulator words,
        if the program has no blocks) that differ from the fault-free run; outputs: output words; stopped: the cycle
        in which the simulation ended.
        """
        table = self._upsets(upsets)
        outcomes = np.zeros(len(table), OUTCOME)
        given, found = table.ctypes.data, outcomes.ctypes.data
        _check(self._lib.rtl_campaign(self._handle, interval, given, len(table), found))
        return outcomes

    def time(self, cycles: int) -> float:
        """Seconds that so many plain cycles of the program take (it begins anew when it is over)."""
        seconds = float(self._lib.rtl_time(self._handle, cycles))
        if seconds < 0:
            raise RtlError(ERRORS[6])
        return seconds
