"""Answers of the Gemmini RTL in a file: faults and results, and its four programs as the emulator runs them.

The format is described in tests/data/README.md. Other operands, other faults, and any choice and order of the
programs and registers are files of the same format.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from emulator.array.exposure import Sites
from emulator.array.operands import Operands
from emulator.array.program import Program
from emulator.array.registers import inventory, register
from emulator.array.spec import ArraySpec
from emulator.array.tiling import Schedule, schedule
from emulator.array.upset import FLIP, KINDS, Kind, Upset
from emulator.errors import BadData

Ints = npt.NDArray[np.int64]
Words = npt.NDArray[np.int32]
Int8s = npt.NDArray[np.int8]

N = 16
WS = ArraySpec.preset("gemmini-16")
OS = replace(WS, dataflow="os")
ZERO = np.zeros((N, N), np.int8)

# Shapes of what the programs stream, by the first letters of their names.
OPERANDS: dict[str, dict[str, tuple[int, ...]]] = {
    "ws": {"W": (3, N, N), "A": (3, N, N), "D": (3, N, N)},
    "os": {"OS_A": (2, N, N), "OS_B": (2, N, N), "OS_D": (N, N)},
}
RESULT_ROWS = {"ws_chain3": 3 * N, "ws_reuse3": 3 * N, "os_k16": N, "os_k32_shift5": N}


class Faults(NamedTuple):
    """The columns of `faults`, (faults,) int64; program, register and kind are codes."""

    program: Ints
    register: Ints
    row: Ints
    col: Ints
    bit: Ints
    kind: Ints
    cycle: Ints


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Vectors:
    """What a file holds. A code in `faults` counts in programs, registers or kinds; operands, int8, and golden,
    (rows, 16) int32, go by the names in the file. Fault f changes entries changed_ptr[f] : changed_ptr[f + 1]:
    element changed_index of the flattened result is changed_value."""

    programs: tuple[str, ...]
    registers: tuple[str, ...]
    kinds: tuple[Kind, ...]
    operands: dict[str, Int8s]
    golden: dict[str, Words]
    faults: Faults
    changed_ptr: Ints
    changed_index: Ints
    changed_value: Ints

    def __len__(self) -> int:
        return len(self.faults.cycle)

    def select(self, program: str, register: str) -> Ints:
        """The faults of one register under one program."""
        which, struck = np.array(self.programs), np.array(self.registers)
        chosen = (which[self.faults.program] == program) & (struck[self.faults.register] == register)
        return np.flatnonzero(chosen)

    def flips(self, faults: Ints) -> Ints:
        """Those of `faults` that are transient flips."""
        flip = np.array([kind == FLIP for kind in self.kinds])
        chosen: Ints = faults[flip[self.faults.kind[faults]]]
        return chosen

    def sites(self, faults: Ints) -> Sites:
        """Where and when these faults strike."""
        row, col, bit, cycle = (getattr(self.faults, column)[faults] for column in Sites._fields)
        return Sites(row, col, bit, cycle)

    def upset(self, fault: int) -> Upset:
        """The fault as the cycle engine takes it; a stuck-at holds to the end."""
        _, register, row, col, bit, kind, cycle = (int(column[fault]) for column in self.faults)
        return Upset(
            register=self.registers[register],
            row=row,
            col=col,
            bits=(bit,),
            kind=self.kinds[kind],
            cycle=cycle,
        )

    def answer(self, fault: int) -> Words:
        """The result the RTL gave under this fault."""
        result = self.golden[self.programs[self.faults.program[fault]]].copy()
        changed = slice(*self.changed_ptr[fault : fault + 2])
        result.ravel()[self.changed_index[changed]] = self.changed_value[changed]
        return result


# ---- the programs


class Request(NamedTuple):
    """16 row slots: does it switch the banks, what enters at the left, at b and at d, its shift, its result row (-1:
    none)."""

    toggle: int
    act: Int8s = ZERO
    psum: Int8s = ZERO
    weight: Int8s = ZERO
    shift: int = 0
    base: int = -1


def array_of(name: str) -> ArraySpec:
    """The array that a program runs on."""
    return WS if name.startswith("ws") else OS


def program_of(vectors: Vectors, name: str) -> Program:
    """The bare program `name`; stationary words enter bottom row first."""
    return flushed(_requests(vectors.operands, name), RESULT_ROWS[name])


def flushed(requests: Sequence[Request], result_rows: int) -> Program:
    """A program of these requests and a last one that holds what came last."""
    last = requests[-1]
    act, psum, weight = (np.tile(words[-1], (N, 1)) for words in (last.act, last.psum, last.weight))
    columns = zip(*requests, Request(0, act, psum, weight), strict=True)
    toggles, acts, psums, weights, shifts, bases = columns
    return Program(
        act=np.concatenate(acts).astype(np.int32),
        psum=np.concatenate(psums).astype(np.int32),
        weight=np.concatenate(weights).astype(np.int32),
        toggle=np.array(toggles, np.int64),
        shift=np.array(shifts, np.int64),
        base=np.array(bases, np.int64),
        result_rows=result_rows,
    )


def _requests(x: dict[str, Int8s], name: str) -> list[Request]:
    match name:
        case "ws_chain3":
            following = [x["W"][1][::-1], x["W"][2][::-1], ZERO]
            tiles = [Request(1, x["A"][k], x["D"][k], following[k], base=N * k) for k in range(3)]
            return [Request(1, weight=x["W"][0][::-1]), *tiles]
        case "ws_reuse3":
            tiles = [Request(int(k == 0), x["A"][k], x["D"][k], base=N * k) for k in range(3)]
            return [Request(1, weight=x["W"][0][::-1]), *tiles]
    blocks = [Request(1, x["OS_A"][0].T, x["OS_B"][0])]
    if name == "os_k32_shift5":
        blocks.append(Request(0, x["OS_A"][1].T, x["OS_B"][1], shift=5))
    return [Request(1, weight=x["OS_D"][::-1]), *blocks, Request(1, base=0)]


def layer_of(vectors: Vectors, name: str) -> tuple[Schedule, Operands]:
    """The same streams in the same cycles as a layer: three groups of one tile, one tile that sees 48 rows, or one
    tile of 16 or 32 products."""
    x = vectors.operands
    match name:
        case "ws_chain3":
            act, wgt, preload = x["A"], x["W"], x["D"]
        case "ws_reuse3":
            act, wgt, preload = x["A"].reshape(1, -1, N), x["W"][:1], x["D"].reshape(1, -1, N)
        case _:
            blocks = 2 if name == "os_k32_shift5" else 1
            act = np.concatenate(x["OS_A"][:blocks], axis=1)[np.newaxis]
            wgt, preload = x["OS_B"][:blocks].reshape(1, -1, N), x["OS_D"][np.newaxis]
    operands = Operands(act=act, wgt=wgt, bias=np.zeros((len(act), N), np.int32), preload=preload)
    if name == "os_k32_shift5":
        return schedule(OS, operands.shape, k_step=2 * N, shift=5), operands
    return schedule(array_of(name), operands.shape), operands


# ---- the file

FIX = "Write it in the format of tests/data/README.md."
SPELLED: dict[str, Kind] = {kind.replace("-", "_"): kind for kind in KINDS}
INT8, INT32 = (-(1 << 7), (1 << 7) - 1), (-(1 << 31), (1 << 31) - 1)


def read_vectors(path: str | Path) -> Vectors:
    """Raises BadData for anything that is not of this format: no npz, a wrong shape, an unknown name, a code or
    place out of range."""
    file = File(Path(path))
    programs = file.names("programs", RESULT_ROWS)
    registers = file.names("registers", [entry.name for entry in inventory(WS)])
    kinds = file.names("kinds", SPELLED)
    golden = {name: file.integers(f"golden_{name}", (RESULT_ROWS[name], N), INT32) for name in programs}
    faults = _faults(file, {"program": len(programs), "register": len(registers), "kind": len(kinds)})
    sizes = np.array([golden[name].size for name in programs], np.int64)
    ptr, index, value = _changes(file, sizes[faults.program])
    vectors = Vectors(
        programs=programs,
        registers=registers,
        kinds=tuple(SPELLED[kind] for kind in kinds),
        operands={
            name: file.integers(name, shape, INT8).astype(np.int8)
            for flow, shapes in OPERANDS.items()
            if any(program.startswith(flow) for program in programs)
            for name, shape in shapes.items()
        },
        golden={name: words.astype(np.int32) for name, words in golden.items()},
        faults=faults,
        changed_ptr=ptr,
        changed_index=index,
        changed_value=value,
    )
    _check_places(file, vectors)
    return vectors


class File:
    """The arrays of an npz file, each checked when it is taken out."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with np.load(path, allow_pickle=False) as data:
                self.arrays: dict[str, npt.NDArray[Any]] = {name: data[name] for name in data.files}
        except FileNotFoundError:
            raise BadData(f"{path}: no such file; allowed: an npz file. Check the path.") from None
        except Exception as error:  # zipfile, zlib and numpy each raise their own for a damaged file
            raise self.refused(
                f"not read ({type(error).__name__}: {error})", "an npz file of plain arrays"
            ) from error

    def refused(self, found: str, allowed: str) -> BadData:
        return BadData(f"{self.path}: {found}; allowed: {allowed}. {FIX}")

    def take(self, name: str) -> npt.NDArray[Any]:
        if name not in self.arrays:
            raise self.refused(
                f"holds {', '.join(self.arrays) or 'nothing'}", f"files with an array {name!r}"
            )
        return self.arrays[name]

    def names(self, name: str, allowed: Iterable[str]) -> tuple[str, ...]:
        """An array (any,) of distinct names out of `allowed`, at least one."""
        found = self.take(name)
        known = list(allowed)
        if found.ndim != 1 or found.dtype.kind != "U" or len(found) == 0:
            raise self.refused(f"{name} is {found.dtype} {found.shape}", "names (any,), one or more")
        names = tuple(found.tolist())
        if wrong := [text for text in names if text not in known or names.count(text) > 1]:
            raise self.refused(f"{name} holds {', '.join(wrong)}", f"each at most once: {', '.join(known)}")
        return names

    def integers(self, name: str, shape: tuple[int | None, ...], span: tuple[int, int]) -> Ints:
        """An array of whole numbers within `span`, both ends included; None is an axis of any length."""
        found = self.take(name)
        fits = found.ndim == len(shape) and all(
            want in (None, has) for want, has in zip(shape, found.shape, strict=True)
        )
        if not fits or found.dtype.kind not in "iu":
            wanted = ", ".join("any" if length is None else str(length) for length in shape)
            raise self.refused(f"{name} is {found.dtype} {found.shape}", f"whole numbers ({wanted})")
        low, high = span
        if found.size and not low <= int(found.min()) <= int(found.max()) <= high:
            raise self.refused(f"{name} holds {found.min()} to {found.max()}", f"{low} to {high}")
        return found.astype(np.int64)


def _faults(file: File, codes: dict[str, int]) -> Faults:
    """codes: how many there are of each."""
    names = file.names("fault_columns", Faults._fields)
    if missing := [name for name in Faults._fields if name not in names]:
        raise file.refused(f"fault_columns is without {', '.join(missing)}", ", ".join(Faults._fields))
    table = file.integers("faults", (None, len(names)), INT32)
    columns = dict(zip(names, table.T, strict=True))
    for name, column in columns.items():
        most = codes[name] - 1 if name in codes else INT32[1]
        if len(column) and not 0 <= int(column.min()) <= int(column.max()) <= most:
            raise file.refused(
                f"column {name} of faults holds {column.min()} to {column.max()}", f"0 to {most}"
            )
    return Faults(**columns)


def _changes(file: File, sizes: Ints) -> tuple[Ints, Ints, Ints]:
    """(ptr, index, value); sizes: elements of each fault's result."""
    ptr = file.integers("changed_ptr", (len(sizes) + 1,), INT32)
    index = file.integers("changed_index", (None,), INT32)
    value = file.integers("changed_value", (len(index),), INT32)
    if ptr[0] != 0 or ptr[-1] != len(index) or (np.diff(ptr) < 0).any():
        raise file.refused(
            f"changed_ptr runs from {ptr[0]} to {ptr[-1]}",
            f"0 to {len(index)}, the length of changed_index, never falling",
        )
    outside = np.flatnonzero((index < 0) | (index >= np.repeat(sizes, np.diff(ptr))))
    if len(outside):
        raise file.refused(
            f"changed_index holds {index[outside[0]]} at {outside[0]}", "an element of the fault's result"
        )
    return ptr, index, value


def _check_places(file: File, vectors: Vectors) -> None:
    """Raise BadData for a fault outside its register."""
    for fault in range(len(vectors)):
        upset = vectors.upset(fault)
        wrong = register(WS, upset.register).check_place(upset.row, upset.col, upset.bits)
        if wrong is not None:
            found, _, allowed = wrong.partition("; allowed: ")
            raise file.refused(f"fault {fault} of {upset.register} has {found}", allowed)
