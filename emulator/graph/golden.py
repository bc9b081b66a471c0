"""The fault-free run: every tensor and every accumulator of an inference, in the emulator's own integers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from emulator.graph.host import HostRuntime
from emulator.graph.kernels import im2col, run_rows
from emulator.graph.program import Program, Rows, Step, Wide, flatten, folded_bias, steps_of
from emulator.graph.qgraph import HostOp, Int8, QuantGraph, Sample
from emulator.graph.wide import (
    WideOperands,
    Words,
    as_stored,
    in_shape,
    left_operand,
    right_operand,
    signed,
    signed_zero,
)

Ints = npt.NDArray[np.int64]
Accumulators = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, weakref_slot=True)
class Inference:
    """One sample through the network. values (value_size,) int8 and accumulators (acc_size,) int32: the pools; host:
    the values of neither, by name."""

    values: Int8 = field(repr=False)
    accumulators: Accumulators = field(repr=False)
    host: dict[str, npt.NDArray[Any]] = field(repr=False)

    def copy(self) -> Inference:
        """Its own pools; host values are replaced, never written to."""
        return Inference(
            values=self.values.copy(), accumulators=self.accumulators.copy(), host=dict(self.host)
        )


# What computes a MAC layer in place of the fault-free arithmetic: (inference so far, layer) to accumulators and, where
# it requantises, int8 outputs, both (m, groups * n).
MacRunner = Callable[[Inference, int], tuple[Accumulators, Int8 | None]]


@dataclass(frozen=True, eq=False)
class Golden:
    """The fault-free network, ready to run."""

    graph: QuantGraph

    @cached_property
    def program(self) -> Program:
        return flatten(self.graph)

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        return steps_of(self.graph)

    @cached_property
    def host(self) -> HostRuntime:
        return HostRuntime()

    def run(self, sample: Sample) -> Inference:
        """sample: the network's input without the batch dimension, or all inputs by name."""
        inference = self._fed(sample)
        for step in self.steps:
            self.run_step(inference, step)
        return inference

    def run_step(self, inference: Inference, step: Step) -> None:
        """One step, in place."""
        if isinstance(step, Rows):
            run_rows(self.program, inference.values, inference.accumulators, step.first, step.last)
        elif isinstance(step, Wide):
            given = self.graph.layers[step.layer].bias
            self.settle(inference, step.layer, self.wide(inference, step.layer).accumulate(given), None)
        else:
            self._run_host(inference, step)

    def run_on(self, sample: Sample, array: MacRunner) -> Inference:
        """The inference with its MAC layers computed by `array` from whatever reaches them."""
        inference = self._fed(sample)
        layer_of = {int(op): layer for layer, op in enumerate(self.program.layer_op)}
        for step in self.steps:
            if isinstance(step, Wide):
                self.settle(inference, step.layer, *array(inference, step.layer))
            elif isinstance(step, Rows):
                for op in range(*step):
                    if op in layer_of:
                        self.settle(inference, layer_of[op], *array(inference, layer_of[op]))
                    else:
                        self.run_step(inference, Rows(op, op + 1))
            else:
                self.run_step(inference, step)
        return inference

    def rerun(self, golden: Inference, layer: int, m: Ints, n: Ints, delta: Ints) -> Inference:
        """The whole inference again with errors added, modulo 2^32, to the accumulators of MAC layer `layer`: the slow,
        plain answer that sparse propagation must equal."""
        inference = golden.copy()
        acc = self.accumulator(golden, layer).copy()
        np.add.at(acc, (m, n), delta.astype(np.int32))
        self.settle(inference, layer, acc, None)
        at = self.step_of(layer)
        struck = self.steps[at]
        if isinstance(struck, Rows):
            self.run_step(inference, Rows(int(self.program.layer_op[layer]) + 1, struck.last))
        for step in self.steps[at + 1 :]:
            self.run_step(inference, step)
        return inference

    def settle(self, inference: Inference, layer: int, acc: Accumulators, output: Int8 | None) -> None:
        """Store the accumulators of a layer, (m, groups * n), and what becomes of them: `output` or, where that is
        None, what the requantiser makes of them."""
        mac = self.graph.layers[layer]
        self.accumulator(inference, layer)[:] = acc
        if isinstance(mac.target, str):
            inference.host[mac.target] = in_shape(mac, acc)
            return
        assert mac.requantisation is not None
        result = mac.requantisation(acc) if output is None else output
        self.tensor(inference, mac.target)[:] = as_stored(mac, result)

    def _fed(self, sample: Sample) -> Inference:
        p = self.program
        inference = Inference(values=p.initial.copy(), accumulators=np.zeros(p.acc_size, np.int32), host={})
        for name, array in self.graph.feeds(sample).items():
            self.put(inference, name, array)
        return inference

    def host_values(self, sample: Sample) -> dict[str, npt.NDArray[Any]]:
        """The inputs that are no tensors."""
        return {k: v for k, v in self.graph.feeds(sample).items() if k not in self.graph.index}

    def _run_host(self, inference: Inference, segment: HostOp) -> None:
        feeds = {name: self.value(inference, name) for name in segment.inputs}
        for name, array in zip(segment.outputs, self.host.run(segment, feeds), strict=True):
            self.put(inference, name, array)

    def step_of(self, layer: int) -> int:
        """The step that runs a MAC layer."""
        op = int(self.program.layer_op[layer])
        for i, step in enumerate(self.steps):
            if step == Wide(layer) or (isinstance(step, Rows) and step.first <= op < step.last):
                return i
        raise ValueError(f"layer {layer} is in no step")

    # ---- reading

    def value(self, inference: Inference, name: str) -> npt.NDArray[Any]:
        """A tensor or host value as ONNX Runtime has it."""
        if name not in self.graph.index:
            return inference.host[name]
        index = self.graph.index[name]
        # Not ascontiguousarray, which gives a scalar an axis.
        return np.array(
            self.graph.tensors[index].to_onnx(self.tensor(inference, index)[np.newaxis])[0], order="C"
        )

    def put(self, inference: Inference, name: str, array: npt.NDArray[Any]) -> None:
        """The inverse of `value`."""
        if name in self.graph.index:
            index = self.graph.index[name]
            self.tensor(inference, index)[:] = self.graph.tensors[index].from_onnx(array)
        else:
            inference.host[name] = array

    def tensor(self, inference: Inference, index: int) -> Int8:
        """(size,) stored values of a tensor."""
        start, end = self.program.tensor_start[index : index + 2]
        return inference.values[start:end]

    def logits(self, inference: Inference) -> npt.NDArray[Any]:
        """(classes,) the answer: stored int8, or the float values of a host value."""
        if isinstance(self.graph.output, int):
            return self.tensor(inference, self.graph.output)
        return inference.host[self.graph.output].reshape(-1)

    def top1(self, inference: Inference) -> int:
        """The class with the largest logit, the first of several."""
        return int(self.logits(inference).argmax())

    def answers(self, images: Iterable[Inference]) -> npt.NDArray[np.int64]:
        """(images,) `top1` of each."""
        return np.array([self.top1(image) for image in images], np.int64)

    def accumulator(self, inference: Inference, layer: int) -> Accumulators:
        """(m, groups * n) int32 of MAC layer `layer`."""
        mac = self.graph.layers[layer]
        start, end = self.program.acc_start[layer : layer + 2]
        return inference.accumulators[start:end].reshape(mac.shape.m, mac.columns)

    # ---- what the array sees

    def streamed(self, inference: Inference, layer: int) -> Words:
        """(groups, m, k) int8 or int16: the left operand, padding in place."""
        mac = self.graph.layers[layer]
        if not mac.compiled:
            return self.wide(inference, layer).act
        row = self.program.ops[self.program.layer_op[layer]]
        out = np.empty((mac.shape.groups, mac.shape.m, mac.shape.k), np.int8)
        for group in range(mac.shape.groups):
            im2col(self.program, row, inference.values, group, out[group])
        return out

    def stationary(self, inference: Inference, layer: int) -> Words:
        """(groups, k, n) int8 or int16: the right operand."""
        mac = self.graph.layers[layer]
        return mac.weight if mac.weight is not None else self.wide(inference, layer).wgt

    def bias(self, inference: Inference, layer: int) -> Accumulators:
        """(groups, n) int32, or (groups, m, n) where it depends on the row: what the sums of products start from, the
        zero points of both operands folded in."""
        mac = self.graph.layers[layer]
        zero = mac.weight_zero_point
        if mac.compiled and not isinstance(zero, str) and not zero.any():
            return self._folded_bias(layer)
        return self.wide(inference, layer).bias(mac.bias)

    @cached_property
    def _folded_bias(self) -> Callable[[int], Accumulators]:
        return lru_cache(maxsize=None)(lambda layer: folded_bias(self.graph.layers[layer]))

    def wide(self, inference: Inference, layer: int) -> WideOperands:
        """Both operands of a MAC layer, from whatever holds them."""
        mac = self.graph.layers[layer]
        zero_point = self._zero_points(inference, mac.zero_point)
        zero_points = self._zero_points(inference, mac.weight_zero_point)
        if zero_points.size == mac.bias.size:
            zero_points = zero_points.reshape(mac.bias.shape)
        first = int(zero_point.reshape(-1)[0])
        wgt: Words | None = mac.weight
        if wgt is None:
            assert mac.right is not None
            wgt = right_operand(mac, self._signed(inference, mac.right))
        return WideOperands(
            act=left_operand(mac, self._signed(inference, mac.source), first),
            wgt=wgt,
            zero_point=first,
            zero_points=np.broadcast_to(zero_points, mac.bias.shape),
        )

    def _signed(self, inference: Inference, source: int | str) -> Words:
        """An operand in ONNX order."""
        if isinstance(source, str):
            return signed(inference.host[source])
        stored = self.tensor(inference, source)[np.newaxis]
        ordered: Words = self.graph.tensors[source].in_order(stored)[0]
        return ordered

    def _zero_points(self, inference: Inference, given: int | str | Accumulators) -> Accumulators:
        if isinstance(given, str):
            return signed_zero(inference.host[given])
        return np.asarray(given, np.int32)
