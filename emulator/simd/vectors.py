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
    return _call(builder, f"llvm.x86.avx512.vpdpbusd.{32 * sums.type.count}", sums.type, (sums, left, right))


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


class Sums(types.Type):
    """A row of `width` sums, int32, as vectors on which words of interleaved weights act: see `accumulated`."""

    def __init__(self, width: int) -> None:
        self.width = width
        super().__init__(name=f"Sums({width} of {LANES})")

    @property
    def vectors(self) -> int:
        """How many there are."""
        return self.width // self.lanes

    @property
    def lanes(self) -> int:
        """Of a vector: as many as four rows of bytes fill, or two of int16."""
        return self.width // 4 if TAPS == 4 else LANES


@register_model(Sums)
class _SumsModel(models.PrimitiveModel):
    def __init__(self, manager: Any, sums: Sums) -> None:
        vector = ir.VectorType(_INT32, sums.lanes)
        models.PrimitiveModel.__init__(self, manager, sums, ir.ArrayType(vector, sums.vectors))


@_instruction
def no_sums(typing: Any, width: Any) -> Any:
    """Zeros; the width is a literal: 16, 32 or 64."""
    sums = Sums(width.literal_value)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return ir.Constant(context.get_value_type(sums), None)

    return sums(width), generate


def _unpacked(builder: Any, left: Any, right: Any, high: bool) -> Any:
    """Elements of the lower or the higher half of every 16 bytes, of `left` and `right` in turn, as elements twice as
    wide: one instruction."""
    count, bits = left.type.count, left.type.element.width
    part = 128 // bits
    order = [
        side + start + (part // 2 if high else 0) + element
        for start in range(0, count, part)
        for element in range(part // 2)
        for side in (0, count)
    ]
    mixed = builder.shuffle_vector(left, right, ir.Constant(ir.VectorType(_INT32, count), order))
    return builder.bitcast(mixed, ir.VectorType(ir.IntType(2 * bits), count // 2))


def column_order(width: int) -> list[int]:
    """Which column of a tile stands where in its rows of weights, for `accumulated` to bring them in order: four lanes
    of a vector come from 16 bytes of a row, by which vector of a group it is."""
    group, span = (4, width) if TAPS == 4 else (2, 2 * LANES)
    return [
        start + vector * (span // group) + part * 4 + lane
        for start in range(0, width, span)
        for part in range(span // (4 * group))
        for vector in range(group)
        for lane in range(4)
    ]


def _words_of_rows(builder: Any, rows: Sequence[Any]) -> list[Any]:
    """Rows of int8 to vectors of words, each with one element of every row."""
    if len(rows) == 4:
        halves = [
            _unpacked(builder, rows[first], rows[first + 1], high)
            for high in (False, True)
            for first in (0, 2)
        ]
        return [
            _unpacked(builder, halves[first], halves[first + 1], high)
            for first in (0, 2)
            for high in (False, True)
        ]
    wide = [builder.sext(row, ir.VectorType(_INT16, row.type.count)) for row in rows]
    words = []
    for start in range(0, rows[0].type.count, 2 * LANES):
        columns = ir.Constant(ir.VectorType(_INT32, 2 * LANES), list(range(start, start + 2 * LANES)))
        left, right = (
            builder.shuffle_vector(row, ir.Constant(row.type, ir.Undefined), columns) for row in wide
        )
        words += [_unpacked(builder, left, right, high) for high in (False, True)]
    return words


def _joined(builder: Any, sums: Sums, tile: Any) -> Any:
    """The sums as one vector."""
    joined = [builder.extract_value(tile, number) for number in range(sums.vectors)]
    while len(joined) > 1:
        size = joined[0].type.count
        both = ir.Constant(ir.VectorType(_INT32, 2 * size), list(range(2 * size)))
        joined = [builder.shuffle_vector(a, b, both) for a, b in zip(joined[::2], joined[1::2], strict=True)]
    return joined[0]


@_instruction
def accumulated(
    typing: Any, sums: Any, channels: Any, changes: Any, place: Any, weights: Any, at: Any, first: Any
) -> Any:
    """sums[j] + sum over i < TAPS of changes[place + i] * row[first + channels[place + i], j], where the rows of
    weights, as wide as the sums, in `column_order` and with VNNI as bytes + 128, begin at weights[at:]."""
    row = ir.VectorType(_INT8, sums.width)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        tile, listing, deltas, start, weight, begin, number = arguments
        size = ir.Constant(_INT64, sums.width)
        begin = builder.add(begin, builder.mul(number, size))
        rows = []
        for i in range(TAPS):
            where = builder.add(start, ir.Constant(_INT64, i))
            channel = builder.load(_pointer(context, builder, channels, listing, where, _INT8))
            where = builder.add(begin, builder.mul(builder.zext(channel, _INT64), size))
            rows.append(_load(builder, _pointer(context, builder, weights, weight, where, row)))
        word = _load(builder, _pointer(context, builder, changes, deltas, start, _INT32))
        operand = _broadcast(builder, word, sums.lanes)
        for index, words in enumerate(_words_of_rows(builder, rows)):
            total = _dot(builder, builder.extract_value(tile, index), words, operand)
            tile = builder.insert_value(tile, total, index)
        return tile

    integer = types.int64
    return sums(sums, channels, changes, integer, weights, integer, integer), generate


@_instruction
def peek(typing: Any, array: Any, place: Any) -> Any:
    """array[place] as int64; a place before the array is not counted from its end, which takes longer than to read."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        source, at = arguments
        kind = context.get_value_type(array.dtype)
        return builder.sext(builder.load(_pointer(context, builder, array, source, at, kind)), _INT64)

    return types.int64(array, types.int64), generate


@_instruction
def poke(typing: Any, array: Any, place: Any, value: Any) -> Any:
    """array[place] = value, int64; as `peek` reads."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        target, at, number = arguments
        kind = context.get_value_type(array.dtype)
        builder.store(builder.trunc(number, kind), _pointer(context, builder, array, target, at, kind))
        return context.get_dummy_value()

    return types.void(array, types.int64, types.int64), generate


QUEUED = 4
"""Entries that `queued` writes."""


@_instruction
def queued(typing: Any, entry: Any, queue: Any, at: Any) -> Any:
    """queue[at + i] = entry + i * TAPS for i < QUEUED, int64."""
    some = ir.VectorType(_INT64, QUEUED)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        first, entries, end = arguments
        steps = ir.Constant(some, [i * TAPS for i in range(QUEUED)])
        numbers = builder.add(_broadcast(builder, first, QUEUED), steps)
        builder.store(numbers, _pointer(context, builder, queue, entries, end, some)).align = 1
        return context.get_dummy_value()

    return types.void(types.int64, queue, types.int64), generate


def _as_number(builder: Any, flags: Any) -> Any:
    return flags if flags.type == _INT64 else builder.zext(flags, _INT64)


@_instruction
def differing(typing: Any, elements: Any, after: Any, before: Any, at: Any) -> Any:
    """Bit i: after[at + i] is not before[at + i], int8, of so many elements, a literal, at most 64."""
    count = elements.literal_value
    run = ir.VectorType(_INT8, count)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _, values, golden, start = arguments
        new, old = (
            _load(builder, _pointer(context, builder, kind, array, start, run))
            for kind, array in ((after, values), (before, golden))
        )
        return _as_number(builder, builder.bitcast(builder.icmp_unsigned("!=", new, old), ir.IntType(count)))

    return types.int64(elements, after, before, types.int64), generate


@_instruction
def total_change(typing: Any, elements: Any, after: Any, before: Any, at: Any) -> Any:
    """after - before of so many elements from `at` on, int8, a literal: which differ, one bit each; which by more than
    a byte holds; and the sum, which is right where there are none of these."""
    count = elements.literal_value
    run, wide, flags = ir.VectorType(_INT8, count), ir.VectorType(_INT32, count), ir.IntType(count)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _, values, golden, start = arguments
        new, old = (
            _load(builder, _pointer(context, builder, kind, array, start, run))
            for kind, array in ((after, values), (before, golden))
        )
        change = builder.sub(new, old)
        clipped = _call(builder, f"llvm.ssub.sat.v{count}i8", run, [new, old])
        bits, beyond = (
            _as_number(builder, builder.bitcast(builder.icmp_unsigned("!=", *pair), flags))
            for pair in ((new, old), (change, clipped))
        )
        # As unsigned bytes LLVM adds them up in one instruction.
        flipped = builder.zext(builder.xor(change, ir.Constant(run, [-128] * count)), wide)
        total = _call(builder, f"llvm.vector.reduce.add.v{count}i32", _INT32, [flipped])
        total = builder.sext(builder.sub(total, ir.Constant(_INT32, 128 * count)), _INT64)
        return context.make_tuple(builder, signature.return_type, (bits, beyond, total))

    return types.UniTuple(types.int64, 3)(elements, after, before, types.int64), generate


@_instruction
def compressed(
    typing: Any,
    elements: Any,
    bits: Any,
    after: Any,
    before: Any,
    at: Any,
    channels: Any,
    changes: Any,
    place: Any,
) -> Any:
    """Of so many elements at + i, a literal, those whose bit i is set: i into channels[place:], uint8, and
    after - before into changes[place:], int8; zeros behind them, `elements` in all. With AVX-512 VBMI2 only."""
    count = elements.literal_value
    run, flags = ir.VectorType(_INT8, count), ir.VectorType(ir.IntType(1), count)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _, mask, values, golden, begin, listing, deltas, end = arguments
        new, old = (
            _load(builder, _pointer(context, builder, kind, array, begin, run))
            for kind, array in ((after, values), (before, golden))
        )
        chosen = builder.bitcast(mask if count == 64 else builder.trunc(mask, ir.IntType(count)), flags)
        numbers = ir.Constant(run, list(range(count)))
        for lanes, kind, target in ((numbers, channels, listing), (builder.sub(new, old), changes, deltas)):
            name = f"llvm.x86.avx512.mask.compress.v{count}i8"
            packed = _call(builder, name, run, [lanes, ir.Constant(run, None), chosen])
            builder.store(packed, _pointer(context, builder, kind, target, end, run)).align = 1
        return context.get_dummy_value()

    integer = types.int64
    return types.void(elements, integer, after, before, integer, channels, changes, integer), generate


@_instruction
def requantised(
    typing: Any,
    sums: Any,
    change: Any,
    uneven: Any,
    offset: Any,
    offset_at: Any,
    columns: Any,
    acc: Any,
    acc_at: Any,
    scale: Any,
    scale_at: Any,
    zero_point: Any,
    low: Any,
    high: Any,
    before: Any,
    after: Any,
    at: Any,
) -> Any:
    """acc[acc_at:] + sums - change * offset[offset_at:], requantised into the first `columns` places of after[at:],
    int8: is any not what it is in before[at:]? Offsets are 0 unless they are uneven; with VNNI 128 is added to each, as
    it was to the weights. change, zero_point, low, high: int32. See `emulator.simd.requantise`."""
    width = sums.width
    numbers, floats = ir.VectorType(_INT32, width), ir.VectorType(ir.FloatType(), width)
    bytes_ = ir.VectorType(_INT8, width)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        tile, changed, uneven, offsets, offsets_at, left, accs, accs_at, scales, column, *rest = arguments
        zero, least, most, golden, values, place = rest
        floor, ceiling = (
            _broadcast(builder, builder.sitofp(builder.sub(bound, zero), ir.FloatType()), width)
            for bound in (least, most)
        )
        total = _load(builder, _pointer(context, builder, acc, accs, accs_at, numbers))
        total = builder.add(total, _joined(builder, sums, tile))
        if TAPS == 4:
            flipped = builder.shl(changed, ir.Constant(_INT32, 7))
            total = builder.sub(total, _broadcast(builder, flipped, width))
        straight = builder.block
        # To multiply whole vectors takes longer than to see that there is nothing to multiply.
        with builder.if_then(uneven):
            by = _load(builder, _pointer(context, builder, offset, offsets, offsets_at, numbers))
            lowered = builder.sub(total, builder.mul(by, _broadcast(builder, changed, width)))
            detour = builder.block
        either = builder.phi(numbers)
        either.add_incoming(total, straight)
        either.add_incoming(lowered, detour)
        total = either
        factors = _load(builder, _pointer(context, builder, scale, scales, column, floats))
        products = builder.fmul(builder.sitofp(total, floats), factors)
        rounded = _call(builder, f"llvm.rint.v{width}f32", floats, [products])
        raised = builder.select(builder.fcmp_ordered(">", rounded, floor), rounded, floor)
        clipped = builder.select(builder.fcmp_ordered("<", raised, ceiling), raised, ceiling)
        shifted = builder.add(builder.fptosi(clipped, numbers), _broadcast(builder, zero, width))
        value = builder.trunc(shifted, bytes_)
        old, new = (
            _pointer(context, builder, kind, array, place, bytes_)
            for kind, array in ((before, golden), (after, values))
        )
        return _settled(builder, value, left, old, new)

    place_, number = types.int64, types.int32
    signature = types.boolean(
        sums, number, types.boolean, offset, place_, place_, acc, place_, scale, place_, number, number, number, before,
        after, place_,
    )  # fmt: skip
    return signature, generate


@_instruction
def scaled_sum(
    typing: Any,
    elements: Any,
    left: Any,
    left_at: Any,
    right: Any,
    right_at: Any,
    real: Any,
    real_at: Any,
    count: Any,
    before: Any,
    after: Any,
    at: Any,
) -> Any:
    """Two runs of int8 scaled and added into the first `count` places of after[at:], at most `elements`, a literal: is
    any not what it is in before[at:]? See `emulator.simd.pairs`, which gives the eight numbers at real[real_at:]."""
    width = elements.literal_value
    bytes_, numbers = ir.VectorType(_INT8, width), ir.VectorType(_INT32, width)
    floats = ir.VectorType(ir.FloatType(), width)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _, lefts, first, rights, second, reals, start, left_, golden, values, place = arguments

        def number(index: int) -> Any:
            where = builder.add(start, ir.Constant(_INT64, index))
            pointer = _pointer(context, builder, real, reals, where, ir.FloatType())
            return _broadcast(builder, builder.load(pointer), width)

        def operand(kind: Any, array: Any, begin: Any, offset: Any) -> Any:
            run = _load(builder, _pointer(context, builder, kind, array, begin, bytes_))
            return builder.fadd(builder.sitofp(builder.sext(run, numbers), floats), offset)

        def fused(*factors: Any) -> Any:
            return _call(builder, f"llvm.fma.v{width}f32", floats, factors)

        total = fused(operand(right, rights, second, number(4)), number(1), number(2))
        total = fused(operand(left, lefts, first, number(3)), number(0), total)
        rounded = builder.fsub(_call(builder, f"llvm.rint.v{width}f32", floats, [total]), number(5))
        low, high = number(6), number(7)
        raised = builder.select(builder.fcmp_ordered(">", rounded, low), rounded, low)
        clipped = builder.select(builder.fcmp_ordered("<", raised, high), raised, high)
        value = builder.trunc(builder.fptosi(clipped, numbers), bytes_)
        old, new = (
            _pointer(context, builder, kind, array, place, bytes_)
            for kind, array in ((before, golden), (after, values))
        )
        return _settled(builder, value, left_, old, new)

    integer = types.int64
    signature = types.boolean(
        elements, left, integer, right, integer, real, integer, integer, before, after, integer
    )
    return signature, generate


def _settled(builder: Any, value: Any, count: Any, before: Any, after: Any) -> Any:
    """The first `count` lanes of `value` to where `after` points, the rest left as it is; is any of them not what
    `before` points to?"""
    width, flags = value.type.count, ir.IntType(value.type.count)
    limit = ir.Constant(_INT64, width)
    within = builder.trunc(builder.select(builder.icmp_signed("<", count, limit), count, limit), _INT8)
    lanes = ir.Constant(value.type, list(range(width)))
    inside = builder.icmp_signed("<", lanes, _broadcast(builder, within, width))
    differs = builder.and_(builder.icmp_unsigned("!=", value, _load(builder, before)), inside)
    builder.store(builder.select(inside, value, _load(builder, after)), after).align = 1
    return builder.icmp_unsigned("!=", builder.bitcast(differs, flags), ir.Constant(flags, 0))


@_instruction
def ones(typing: Any, bits: Any) -> Any:
    """How many bits are set."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _call(builder, "llvm.ctpop.i64", _INT64, arguments)

    return types.int64(types.int64), generate


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
