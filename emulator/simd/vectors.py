"""Vector registers inside kernels: tiles of int32 sums, and the dot product that adds to them.

A numba type that LLVM keeps in registers, and intrinsics on it. Arrays are one-dimensional and contiguous, places are
counted in their elements, and nothing is checked: a place must lie inside, whatever NUMBA_BOUNDSCHECK says. Only for
the vector paths; a kernel on these needs the JIT.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic, models, register_model

from emulator.instructions import CHOSEN

LANES = 16 if CHOSEN.name == "vnni" else 8
"""int32 lanes of a vector."""

TAPS = 4 if CHOSEN.name == "vnni" else 2

WIDEST = 4 if CHOSEN.name == "vnni" else 2
"""Most vectors in a row of a tile: the sums must stay in registers."""

_INT8, _INT16, _INT32, _INT64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
_VECTOR = ir.VectorType(_INT32, LANES)


class Tile(types.Type):
    """`rows` x `vectors` vectors of int32: the sums of `rows` pixels by `vectors * LANES` channels."""

    def __init__(self, rows: int, vectors: int) -> None:
        self.rows, self.vectors = rows, vectors
        super().__init__(name=f"Tile({rows} x {vectors} x {LANES})")


class Places(types.Type):
    """`rows` places in an array, int64."""

    def __init__(self, rows: int) -> None:
        self.rows = rows
        super().__init__(name=f"Places({rows})")


@register_model(Tile)
class _TileModel(models.PrimitiveModel):
    def __init__(self, manager: Any, tile: Tile) -> None:
        models.PrimitiveModel.__init__(self, manager, tile, ir.ArrayType(_VECTOR, tile.rows * tile.vectors))


@register_model(Places)
class _PlacesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, places: Places) -> None:
        models.PrimitiveModel.__init__(self, manager, places, ir.ArrayType(_INT64, places.rows))


def _instruction(function: Callable[..., Any]) -> Callable[..., Any]:
    """An intrinsic of numba; constant arguments arrive as literals."""
    return cast(Callable[..., Any], intrinsic(prefer_literal=True)(function))


def _pointer(context: Any, builder: Any, kind: Any, array: Any, place: Any, pointed: Any) -> Any:
    """The address of an element, to read or write something of another width there."""
    data = context.make_array(kind)(context, builder, value=array).data
    return builder.bitcast(builder.gep(data, [place]), pointed.as_pointer())


def _load(builder: Any, pointer: Any) -> Any:
    loaded = builder.load(pointer)
    loaded.align = 1
    return loaded


def _broadcast(builder: Any, scalar: Any, lanes: int = LANES) -> Any:
    blank = ir.Constant(ir.VectorType(scalar.type, lanes), ir.Undefined)
    filled = builder.insert_element(blank, scalar, ir.Constant(_INT32, 0))
    return builder.shuffle_vector(filled, blank, ir.Constant(ir.VectorType(_INT32, lanes), [0] * lanes))


def _call(builder: Any, name: str, result: Any, arguments: Sequence[Any]) -> Any:
    signature = ir.FunctionType(result, [argument.type for argument in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, signature, name), arguments)


def _dot_bytes(builder: Any, sums: Any, left: Any, right: Any) -> Any:
    """sums + left . right, of 4 unsigned bytes by 4 signed bytes a lane. AVX-512 only."""
    return _call(builder, "llvm.x86.avx512.vpdpbusd.512", _VECTOR, (sums, left, right))


def _dot_pairs(builder: Any, sums: Any, left: Any, right: Any) -> Any:
    """sums + left . right, of 2 int16 by 2 int16 a lane."""
    if CHOSEN.name == "vnni":
        return _call(builder, "llvm.x86.avx512.vpdpwssd.512", _VECTOR, (sums, left, right))
    halves = ir.VectorType(_INT16, 2 * LANES)
    operands = [builder.bitcast(operand, halves) for operand in (left, right)]
    return builder.add(sums, _call(builder, "llvm.x86.avx2.pmadd.wd", _VECTOR, operands))


_dot = _dot_bytes if CHOSEN.name == "vnni" else _dot_pairs


@_instruction
def blank(typing: Any, rows: Any, vectors: Any) -> Any:
    """A tile of zeros; both sizes are literals."""
    tile = Tile(rows.literal_value, vectors.literal_value)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return ir.Constant(context.get_value_type(tile), None)

    return tile(rows, vectors), generate


@_instruction
def vectors_of(typing: Any, tile: Any) -> Any:
    """How many vectors a row of a tile has."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return ir.Constant(_INT64, tile.vectors)

    return types.int64(tile), generate


@_instruction
def load(typing: Any, tile: Any, array: Any, first: Any, stride: Any) -> Any:
    """A tile like `tile`: row r is array[first + r * stride], int32."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        filled, source, start, step = arguments
        for row in range(tile.rows):
            for vector in range(tile.vectors):
                place = builder.add(start, ir.Constant(_INT64, vector * LANES))
                pointer = _pointer(context, builder, array, source, place, _VECTOR)
                filled = builder.insert_value(filled, _load(builder, pointer), row * tile.vectors + vector)
            start = builder.add(start, step)
        return filled

    return tile(tile, array, types.int64, types.int64), generate


@_instruction
def store(typing: Any, tile: Any, array: Any, first: Any, stride: Any) -> Any:
    """Write row r to array[first + r * stride], int32."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        sums, target, start, step = arguments
        for row in range(tile.rows):
            for vector in range(tile.vectors):
                place = builder.add(start, ir.Constant(_INT64, vector * LANES))
                pointer = _pointer(context, builder, array, target, place, _VECTOR)
                builder.store(builder.extract_value(sums, row * tile.vectors + vector), pointer).align = 1
            start = builder.add(start, step)
        return context.get_dummy_value()

    return types.void(tile, array, types.int64, types.int64), generate


@_instruction
def raised(typing: Any, tile: Any, amount: Any) -> Any:
    """The tile with `amount`, int32, added to every lane."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        sums, scalar = arguments
        added = _broadcast(builder, scalar)
        for place in range(tile.rows * tile.vectors):
            raised = builder.add(builder.extract_value(sums, place), added)
            sums = builder.insert_value(sums, raised, place)
        return sums

    return tile(tile, types.int32), generate


@_instruction
def negated(typing: Any, tile: Any) -> Any:
    """The tile with every lane negated, modulo 2^32."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        (sums,) = arguments
        for place in range(tile.rows * tile.vectors):
            lanes = builder.neg(builder.extract_value(sums, place))
            sums = builder.insert_value(sums, lanes, place)
        return sums

    return tile(tile), generate


@_instruction
def places(typing: Any, tile: Any, table: Any, first: Any, stride: Any, offset: Any) -> Any:
    """For each row r of a tile: table[first + r * stride] + offset, of int32 `table`."""
    rows = Places(tile.rows)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _, source, start, step, base = arguments
        found = ir.Constant(context.get_value_type(rows), ir.Undefined)
        for row in range(tile.rows):
            entry = builder.load(_pointer(context, builder, table, source, start, _INT32))
            found = builder.insert_value(found, builder.add(builder.sext(entry, _INT64), base), row)
            start = builder.add(start, step)
        return found

    integer = types.int64
    return rows(tile, table, integer, integer, integer), generate


@_instruction
def requantised(
    typing: Any,
    tile: Any,
    acc: Any,
    acc_at: Any,
    scale: Any,
    scale_at: Any,
    zero_point: Any,
    low: Any,
    high: Any,
    after: Any,
    before: Any,
    place: Any,
) -> Any:
    """Of a tile of one row, what it adds to acc[acc_at:] requantised into after[place:], int8; bit i of the result:
    element i is not before[place + i]. zero_point, low, high: int32. See `emulator.simd.requantise`."""
    floats, bytes_ = ir.VectorType(ir.FloatType(), LANES), ir.VectorType(_INT8, LANES)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        sums, totals, total_at, scales, column, zero, least, most, values, golden, start = arguments
        floor, ceiling = (
            _broadcast(builder, builder.sitofp(builder.sub(bound, zero), ir.FloatType()))
            for bound in (least, most)
        )
        zeros = _broadcast(builder, zero)
        different = ir.Constant(_INT64, 0)
        for vector in range(tile.vectors):
            skipped = ir.Constant(_INT64, vector * LANES)
            pointer = _pointer(context, builder, acc, totals, builder.add(total_at, skipped), _VECTOR)
            total = builder.add(builder.extract_value(sums, vector), _load(builder, pointer))
            pointer = _pointer(context, builder, scale, scales, builder.add(column, skipped), floats)
            scaled = builder.fmul(builder.sitofp(total, floats), _load(builder, pointer))
            rounded = _call(builder, f"llvm.rint.v{LANES}f32", floats, [scaled])
            raised_ = builder.select(builder.fcmp_ordered(">", rounded, floor), rounded, floor)
            clipped = builder.select(builder.fcmp_ordered("<", raised_, ceiling), raised_, ceiling)
            shifted = builder.add(builder.fptosi(clipped, _VECTOR), zeros)
            value = builder.trunc(shifted, bytes_)
            at = builder.add(start, skipped)
            pointer = _pointer(context, builder, before, golden, at, bytes_)
            bits = builder.icmp_unsigned("!=", value, _load(builder, pointer))
            builder.store(value, _pointer(context, builder, after, values, at, bytes_)).align = 1
            flags = builder.zext(builder.bitcast(bits, ir.IntType(LANES)), _INT64)
            different = builder.or_(different, builder.shl(flags, skipped))
        return different

    place_, number = types.int64, types.int32
    signature = types.int64(tile, acc, place_, scale, place_, number, number, number, after, before, place_)
    return signature, generate


@_instruction
def lowest(typing: Any, bits: Any) -> Any:
    """The number of the lowest bit that is set; of a number that is not 0."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _call(builder, "llvm.cttz.i64", _INT64, [*arguments, ir.Constant(ir.IntType(1), 1)])

    return types.int64(types.int64), generate


def _multiplication(dot: Callable[..., Any]) -> Any:
    """A product of words of 32 bits, each broadcast to all lanes, by vectors of words."""

    @_instruction
    def multiply(
        typing: Any, tile: Any, source: Any, rows: Any, word: Any, weights: Any, at: Any, panel: Any
    ) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            sums, left, starts, offset, right, place, step = arguments
            vectors = []
            for _ in range(tile.vectors):
                vectors.append(_load(builder, _pointer(context, builder, weights, right, place, _VECTOR)))
                place = builder.add(place, step)
            for row in range(tile.rows):
                start = builder.add(builder.extract_value(starts, row), offset)
                pointer = _pointer(context, builder, source, left, start, _INT32)
                broadcast = _broadcast(builder, _load(builder, pointer))
                for vector, weight in enumerate(vectors):
                    entry = row * tile.vectors + vector
                    total = dot(builder, builder.extract_value(sums, entry), broadcast, weight)
                    sums = builder.insert_value(sums, total, entry)
            return sums

        integer = types.int64
        return tile(tile, source, rows, integer, weights, integer, integer), generate

    return multiply


multiply_bytes = _multiplication(_dot_bytes)
"""tile[r, v] += source[rows[r] + word] . weights[at + v * panel]: 4 unsigned by 4 signed bytes a word (VNNI)."""


def _dot_deltas(builder: Any, sums: Any, left: Any, right: Any) -> Any:
    flipped = builder.xor(right, ir.Constant(_VECTOR, [0x80808080 - (1 << 32)] * LANES))
    return _dot_bytes(builder, sums, flipped, left)


multiply_deltas = _multiplication(_dot_deltas)
"""The same with signed bytes of `source` by weights + 128 as unsigned bytes (VNNI): words of zeros may be left out, as
weights + 128 only ask for -128 times the sum of the source (see `raised`)."""

multiply_pairs = _multiplication(_dot_pairs)
"""tile[r, v] += source[rows[r] + word] . weights[at + v * panel]: 2 by 2 int16 a word."""


multiply_operands = multiply_bytes if CHOSEN.name == "vnni" else multiply_pairs
"""The product of words as `emulator.simd.words` fills them."""


@_instruction
def multiply_channels(
    typing: Any, tile: Any, source: Any, rows: Any, weights: Any, at: Any, panel: Any
) -> Any:
    """Of one row: tile[v, lane] += sum over i of source[rows[i] + v * LANES + lane] * weights[...][i], of bytes
    `source`, where the word of weights is weights[at + v * panel + lane]."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        sums, left, starts, right, place, step = arguments
        run = ir.VectorType(_INT8, LANES)
        for vector in range(tile.vectors):
            runs, skipped = [], ir.Constant(_INT64, vector * LANES)
            for tap in range(TAPS):
                start = builder.add(builder.extract_value(starts, tap), skipped)
                runs.append(_load(builder, _pointer(context, builder, source, left, start, run)))
            words = _interleaved(builder, runs)
            if TAPS == 2:
                words = builder.sext(words, ir.VectorType(_INT16, 2 * LANES))
            weight = _load(builder, _pointer(context, builder, weights, right, place, _VECTOR))
            total = builder.extract_value(sums, vector)
            total = _dot(builder, total, builder.bitcast(words, _VECTOR), weight)
            sums = builder.insert_value(sums, total, vector)
            place = builder.add(place, step)
        return sums

    return tile(tile, source, rows, weights, types.int64, types.int64), generate


def _interleaved(builder: Any, runs: Sequence[Any]) -> Any:
    """Element i of every run, then element i + 1 of every run."""
    runs = list(runs)
    count = len(runs)
    while len(runs) > 1:
        length = runs[0].type.count
        joined = ir.Constant(ir.VectorType(_INT32, 2 * length), list(range(2 * length)))
        runs = [builder.shuffle_vector(a, b, joined) for a, b in zip(runs[::2], runs[1::2], strict=True)]
    order = [run * LANES + lane for lane in range(LANES) for run in range(count)]
    mixed = ir.Constant(ir.VectorType(_INT32, len(order)), order)
    return builder.shuffle_vector(runs[0], ir.Constant(runs[0].type, ir.Undefined), mixed)
