"""Random layers, what they compute by other means, and the sites of their registers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from emulator.array.cycle import Replay, replay_layer
from emulator.array.exposure import Sites
from emulator.array.operands import Operands
from emulator.array.registers import Register
from emulator.array.spec import ArraySpec, Dataflow, Overflow
from emulator.array.tiling import Schedule, schedule
from emulator.array.upset import Upset
from emulator.gemm import FixedPoint, GemmShape, Requantisation

Ints = npt.NDArray[np.int64]
Words = npt.NDArray[np.int32]

DATAFLOWS: tuple[Dataflow, ...] = ("ws", "os", "is")


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A layer with its operands and its requantisation; `run` is the cycle engine."""

    plan: Schedule
    operands: Operands
    requantisation: Requantisation | FixedPoint | None

    def run(self, *upsets: Upset) -> Replay:
        return replay_layer(self.plan, self.operands, upsets, self.requantisation)

    def output(self, accumulator: Words) -> Words:
        """What the requantiser writes; nothing where sums leave unrequantised."""
        if self.requantisation is None:
            return np.zeros_like(accumulator)
        return self.requantisation(accumulator).astype(np.int32)


def integers(rng: np.random.Generator, bits: int, shape: tuple[int, ...]) -> npt.NDArray[np.int64]:
    """Signed words of this width, the ends included."""
    return rng.integers(-1 << (bits - 1), 1 << (bits - 1), shape)


def operands_of(
    spec: ArraySpec, shape: GemmShape, rng: np.random.Generator, *, preload: bool, bias_by_row: bool
) -> Operands:
    g, m, k, n = shape.groups, shape.m, shape.k, shape.n
    act = integers(rng, spec.act_bits, (g, m, k)).astype(np.int8 if spec.act_bits <= 8 else np.int16)
    wgt = integers(rng, spec.wgt_bits, (g, k, n)).astype(np.int8 if spec.wgt_bits <= 8 else np.int16)
    bias = integers(rng, spec.acc_bits, (g, m, n) if bias_by_row else (g, n)).astype(np.int32)
    edge = integers(rng, min(spec.edge_bits, 8), (g, m, n)).astype(np.int8)
    return Operands(act=act, wgt=wgt, bias=bias, preload=edge if preload else None)


def requantisation_of(
    spec: ArraySpec, shape: GemmShape, rng: np.random.Generator
) -> Requantisation | FixedPoint:
    """Scales that bring a word of the accumulator to a few times the range of a result."""
    bits = min(spec.act_bits, 8)
    spread = 2.0 ** (bits - spec.acc_bits)
    scale = rng.uniform(spread / 2, min(4 * spread, 0.99), shape.groups * shape.n).astype(np.float32)
    float32 = Requantisation(
        scale=scale, zero_point=int(rng.integers(-4, 5)), low=-1 << (bits - 1), high=(1 << (bits - 1)) - 1
    )
    return FixedPoint.of(float32) if spec.requantiser == "fixed-point" else float32


def layer_of(
    spec: ArraySpec,
    shape: GemmShape,
    seed: int = 0,
    *,
    preload: bool = False,
    bias_by_row: bool = False,
    requantised: bool = True,
    **options: int,
) -> Layer:
    """options: k_step and shift of an output-stationary schedule."""
    rng = np.random.default_rng(seed)
    operands = operands_of(spec, shape, rng, preload=preload, bias_by_row=bias_by_row)
    return Layer(
        plan=schedule(spec, shape, requantised=requantised, **options),
        operands=operands,
        requantisation=requantisation_of(spec, shape, rng) if requantised else None,
    )


WIDTHS = [(8, 8), (8, 8), (4, 4), (16, 12), (12, 16), (8, 4), (4, 8), (14, 14), (2, 2)]


@st.composite
def specs(draw: st.DrawFn, dataflow: Dataflow) -> ArraySpec:
    """Small arrays of any form; buffers are large, partial sums exact."""
    rows, cols = draw(st.integers(2, 6)), draw(st.integers(1, 6))
    act_bits, wgt_bits = draw(st.sampled_from([w for w in WIDTHS if dataflow != "is" or w[0] == w[1]]))
    psum_bits = min(act_bits + wgt_bits + (rows - 1).bit_length() + draw(st.integers(0, 2)), 32)
    bank_bits = draw(st.sampled_from([psum_bits if dataflow == "os" else wgt_bits, psum_bits, 32]))
    halves = 2 * rows if dataflow == "os" else 2
    return ArraySpec(
        rows=rows,
        cols=cols,
        dataflow=dataflow,
        dataflows="both" if dataflow == "os" else draw(st.sampled_from(["both", "ws"])),
        act_bits=act_bits,
        wgt_bits=wgt_bits,
        psum_bits=max(psum_bits, 4),
        bank_bits=max(bank_bits, 4),
        acc_rows=draw(st.integers(halves, halves + 21)),
        act_buffer_rows=2000,
        wgt_buffer_rows=2000,
        requantiser=draw(st.sampled_from(["float32", "fixed-point"])),
    )


@st.composite
def shapes(draw: st.DrawFn) -> GemmShape:
    """Edge tiles, several folds, blocks and groups are the rule."""
    size = {name: draw(st.integers(1, most)) for name, most in (("m", 18), ("k", 15), ("n", 11))}
    return GemmShape(groups=draw(st.integers(1, 3)), **size)


@st.composite
def layers(draw: st.DrawFn, dataflow: Dataflow) -> Layer:
    spec, shape = draw(specs(dataflow)), draw(shapes())
    if draw(st.booleans()):
        spec = with_small_buffers(spec, shape, draw(st.integers(0, 9)))
    return draw(layers_of(spec, shape))


@st.composite
def layers_of(draw: st.DrawFn, spec: ArraySpec, shape: GemmShape, **options: int) -> Layer:
    """Any operands, and both ways out."""
    return layer_of(
        spec,
        shape,
        draw(st.integers(0, 999)),
        preload=draw(st.booleans()),
        bias_by_row=draw(st.booleans()),
        requantised=draw(st.sampled_from([True, True, False])),
        **options,
    )


@st.composite
def struck_layers(draw: st.DrawFn, dataflow: Dataflow) -> Layer:
    """The same, where output-stationary with other k-blocks and with shifted results too."""
    layer = draw(layers(dataflow))
    if dataflow != "os" or draw(st.booleans()):
        return layer
    spec, shape = layer.plan.spec, layer.plan.shape
    options = {"k_step": spec.rows * draw(st.integers(1, 3)), "shift": draw(st.sampled_from([0, 1, 5]))}
    spec = replace(spec, act_buffer_rows=2000, wgt_buffer_rows=2000)
    return draw(layers_of(spec, shape, **options))


@st.composite
def wrapping_layers(draw: st.DrawFn, dataflow: Dataflow) -> Layer:
    """16-bit operands at their ends: sums overflow partial sums and accumulators of 32 bits alike."""
    spec = replace(draw(specs(dataflow)), act_bits=16, wgt_bits=16, psum_bits=32, bank_bits=32)
    layer = draw(layers_of(spec, replace(draw(shapes()), k=draw(st.integers(8, 30)))))
    act, wgt = (
        np.where(x < 0, -32768, 32767).astype(np.int16) for x in (layer.operands.act, layer.operands.wgt)
    )
    # Equal signs along k in the first row and column.
    act[:, 0], wgt[:, :, 0] = -32768, -32768
    return replace(layer, operands=replace(layer.operands, act=act, wgt=wgt))


def with_small_buffers(spec: ArraySpec, shape: GemmShape, spare: int) -> ArraySpec:
    """Room for the largest tile twice, and `spare` rows."""
    slots = int(schedule(spec, shape).slots.max())
    weights = slots if spec.dataflow == "os" else spec.rows
    return replace(spec, act_buffer_rows=2 * slots + spare, wgt_buffer_rows=2 * weights + spare)


# Two blocks of two k-folds each: five requests of four slots. The last row enters in slot 19, is at the outputs of
# column 0 in cycle 25 and deskewed in cycle 27; entry 4 of the tag table is the last request's from cycle 16 on.
TWO_BLOCKS = layer_of(ArraySpec(rows=4, cols=3, psum_bits=18, acc_rows=8), GemmShape(m=6, k=6, n=3))


@st.composite
def inexact_layers(draw: st.DrawFn, dataflow: Dataflow, overflow: Overflow) -> Layer:
    """Partial sums and accumulators too narrow for their layer."""
    spec = draw(specs(dataflow))
    narrowest = max(spec.act_bits, spec.wgt_bits, 4)
    spec = replace(
        spec,
        psum_bits=draw(st.integers(narrowest, min(spec.exact_psum_bits, 31))),
        bank_bits=32,
        acc_bits=draw(st.sampled_from([8, 16, 24, 32])),
        overflow=overflow,
    )
    options = {}
    if dataflow == "os":
        options = {
            "k_step": spec.rows * draw(st.integers(1, 3)),
            "shift": draw(st.sampled_from([0, 0, 1, 5, 31])),
        }
    return draw(layers_of(spec, draw(shapes()), **options))


# ---- oracles


def matmul(operands: Operands) -> Words:
    """int64 NumPy, wrapped to 32 bits."""
    bias = operands.bias if operands.bias.ndim == 3 else operands.bias[:, np.newaxis]
    total = operands.act.astype(np.int64) @ operands.wgt.astype(np.int64) + bias
    if operands.preload is not None:
        total += operands.preload
    return np.concatenate(total, axis=1).astype(np.int32)


def narrowed(value: int, bits: int, overflow: str) -> int:
    """What a word of `bits` bits makes of a sum."""
    half = 1 << (bits - 1)
    if overflow == "saturate":
        return max(-half, min(value, half - 1))
    return (value + half) % (2 * half) - half


def pe_by_pe(plan: Schedule, operands: Operands) -> Words:
    """Every multiply-accumulate in the order of the PEs, in plain Python: down a column (WS, IS), or cycle by cycle
    in one PE, which shifts the sum on its way out (OS); each k-fold's result is added in the accumulator."""
    spec, shape = plan.spec, plan.shape
    fold = int(plan.k_size[0]) if spec.dataflow == "os" else spec.rows
    result = np.empty((shape.m, shape.groups * shape.n), np.int32)
    for g, m, n in np.ndindex(shape.groups, shape.m, shape.n):
        products = [int(a) * int(w) for a, w in zip(operands.act[g, m], operands.wgt[g, :, n], strict=True)]
        total, entering = int(operands.bias[(g, m, n) if operands.bias.ndim == 3 else (g, n)]), 0
        if operands.preload is not None:
            entering = int(operands.preload[g, m, n])
        for start in range(0, shape.k, fold):
            for product in products[start : start + fold]:
                entering = narrowed(entering + product, spec.psum_bits, spec.overflow)
            # Python rounds half to even.
            leaving = round(Fraction(entering, 1 << plan.shift))
            total = narrowed(total + leaving, spec.acc_bits, spec.overflow)
            entering = 0
        result[m, g * shape.n + n] = total
    return result


# ---- sites


def any_sites(plan: Schedule, reg: Register, rng: np.random.Generator, count: int) -> Sites:
    """Uniform over all bits and cycles, dead ones included."""
    word = rng.integers(0, max(reg.total_bits, 1), count if reg.total_bits else 0)
    return Sites(*reg.place(word), rng.integers(0, plan.window_cycles, len(word)))


def live_sites(plan: Schedule, reg: Register, rng: np.random.Generator, count: int) -> Sites:
    """Uniform over the live ones; none where the layer has none."""
    ends = np.cumsum(reg.lifetime.count(plan))
    if ends[-1] == 0:
        return Sites(*np.zeros((4, 0), np.int64))
    index = rng.integers(0, ends[-1], count)
    fold = np.searchsorted(ends, index, side="right")
    offset = index - np.where(fold > 0, ends[fold - 1], 0)
    at = reg.lifetime.site(plan, fold, offset)
    assert np.array_equal(reg.lifetime.offset(plan, at), (fold, offset)), reg.name
    return at


def dead_sites(plan: Schedule, reg: Register, rng: np.random.Generator, count: int) -> Sites:
    at = any_sites(plan, reg, rng, count)
    dead = reg.lifetime.offset(plan, at)[0] < 0
    return Sites(*(column[dead] for column in at))


def joined(*parts: Sites) -> Sites:
    return Sites(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def upsets_at(reg: Register, at: Sites) -> Iterator[Upset]:
    for row, col, bit, cycle in zip(*(column.tolist() for column in at), strict=True):
        yield Upset(register=reg.name, row=row, col=col, bits=(bit,), cycle=cycle)
