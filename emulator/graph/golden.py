"""The fault-free run: every tensor and every accumulator of an inference, in the emulator's own integers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from emulator.graph.kernels import (
    Values,
    accumulate,
    average_at,
    global_average_at,
    im2col,
    max_at,
    moved_at,
    pair_at,
    requantise_layer,
    table_at,
)
from emulator.graph.program import Col, Kind, Program, flatten
from emulator.graph.qgraph import Int8, MacLayer, QuantGraph
from emulator.jit import Int, kernel

Ints = npt.NDArray[np.int64]


@kernel
def element_at(p: Program, op: Int, values: Values, element: Int) -> Int:
    """One output element of any operator that is not a MAC layer."""
    row = p.ops[op]
    kind = row[Col.KIND]
    if kind == Kind.TABLE:
        return table_at(p, row, values, element)
    if kind == Kind.PAIR_TABLE:
        return pair_at(p, row, values, element)
    if kind == Kind.MOVE:
        return moved_at(p, row, values, element)
    if kind == Kind.MAX_POOL:
        return max_at(p, row, values, element)
    if kind == Kind.AVERAGE_POOL:
        return average_at(p, row, values, element)
    return global_average_at(p, row, values, element)


@kernel
def run_dense(
    p: Program,
    values: Values,
    acc: npt.NDArray[np.int32],
    first: Int,
    last: Int,
    struck: Int,
    m: Ints,
    n: Ints,
    delta: Ints,
) -> None:
    """Operators [first, last), in place. Operator `struck` (-1: none) is a MAC layer whose accumulators
    [m, n] get `delta` added, modulo 2^32, before they are requantised."""
    for op in range(first, last):
        row = p.ops[op]
        if row[Col.KIND] == Kind.MAC:
            accumulate(p, row, values, acc)
            if op == struck:
                for e in range(len(m)):
                    acc[row[Col.ACC_START] + m[e] * row[Col.GROUPS] * row[Col.N] + n[e]] += delta[e]
            requantise_layer(p, row, values, acc)
        else:
            _run_elements(p, op, values)


@kernel
def _run_elements(p: Program, op: Int, values: Values) -> None:
    """Every element of an operator that is not a MAC layer; one loop a kind, so that each stays tight."""
    row = p.ops[op]
    kind = row[Col.KIND]
    start = p.tensor_start[row[Col.TARGET]]
    size = p.tensor_start[row[Col.TARGET] + 1] - start
    if kind == Kind.TABLE:
        for element in range(size):
            values[start + element] = table_at(p, row, values, element)
    elif kind == Kind.PAIR_TABLE:
        for element in range(size):
            values[start + element] = pair_at(p, row, values, element)
    elif kind == Kind.MOVE:
        for element in range(size):
            values[start + element] = moved_at(p, row, values, element)
    else:
        for element in range(size):
            values[start + element] = element_at(p, op, values, element)


NO_ERRORS: Ints = np.zeros(0, np.int64)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Inference:
    """One image through the network. values (value_size,) int8 and accumulators (acc_size,) int32: the pools."""

    values: Int8 = field(repr=False)
    accumulators: npt.NDArray[np.int32] = field(repr=False)


MacRunner = Callable[[Inference, int], tuple[npt.NDArray[np.int32], Int8]]


@dataclass(frozen=True)
class Golden:
    """The fault-free network, ready to run."""

    graph: QuantGraph

    @cached_property
    def program(self) -> Program:
        return flatten(self.graph)

    def run(self, image: npt.NDArray[np.float32]) -> Inference:
        """image: float32, the network's input without the batch dimension."""
        stored = self.graph.quantise_input(image[np.newaxis])[0]
        return self._run(stored, -1, NO_ERRORS, NO_ERRORS, NO_ERRORS)

    def rerun(self, golden: Inference, layer: int, m: Ints, n: Ints, delta: Ints) -> Inference:
        """The whole inference again with errors added to the accumulators of MAC layer `layer`: the slow,
        plain answer that sparse propagation must equal."""
        start, end = self.program.tensor_start[self.graph.input : self.graph.input + 2]
        op = int(self.program.layer_op[layer])
        return self._run(golden.values[start:end], op, m, n, delta)

    def run_on(self, image: npt.NDArray[np.float32], array: MacRunner) -> Inference:
        """The inference with its MAC layers computed by `array` from whatever reaches them.

        array(inference so far, layer) returns accumulators and int8 outputs, both (m, groups * n).
        """
        p = self.program
        values, acc = np.zeros(p.value_size, np.int8), np.zeros(p.acc_size, np.int32)
        stored = self.graph.quantise_input(image[np.newaxis])[0]
        start = p.tensor_start[self.graph.input]
        values[start : start + len(stored)] = stored
        inference = Inference(values=values, accumulators=acc)
        done = 0
        for layer, op in enumerate(p.layer_op.tolist()):
            run_dense(p, values, acc, done, op, -1, NO_ERRORS, NO_ERRORS, NO_ERRORS)
            accumulator, output = array(inference, layer)
            self.accumulator(inference, layer)[:] = accumulator
            self.tensor(inference, self.graph.layers[layer].target)[:] = output.reshape(-1)
            done = op + 1
        run_dense(p, values, acc, done, len(p.ops), -1, NO_ERRORS, NO_ERRORS, NO_ERRORS)
        return inference

    def _run(self, stored: Int8, struck: Int, m: Ints, n: Ints, delta: Ints) -> Inference:
        p = self.program
        values, acc = np.zeros(p.value_size, np.int8), np.zeros(p.acc_size, np.int32)
        start = p.tensor_start[self.graph.input]
        values[start : start + len(stored)] = stored
        run_dense(p, values, acc, 0, len(p.ops), struck, m, n, delta)
        return Inference(values=values, accumulators=acc)

    def tensor(self, inference: Inference, index: int) -> Int8:
        """(size,) stored values of a tensor."""
        start, end = self.program.tensor_start[index : index + 2]
        return inference.values[start:end]

    def logits(self, inference: Inference) -> Int8:
        """(classes,) int8 logits."""
        return self.tensor(inference, self.graph.output)

    def accumulator(self, inference: Inference, layer: int) -> npt.NDArray[np.int32]:
        """(m, groups * n) int32 of MAC layer `layer`."""
        shape = self.graph.layers[layer].shape
        start = int(self.program.ops[self.program.layer_op[layer], Col.ACC_START])
        size = shape.m * shape.n * shape.groups
        return inference.accumulators[start : start + size].reshape(shape.m, shape.n * shape.groups)

    def streamed(self, inference: Inference, layer: int) -> Int8:
        """(groups, m, k) int8: the operand the array sees, im2col with padding."""
        mac: MacLayer = self.graph.layers[layer]
        row = self.program.ops[self.program.layer_op[layer]]
        out = np.empty((mac.shape.groups, mac.shape.m, mac.shape.k), np.int8)
        start = int(self.program.tensor_start[mac.source])
        padding = self.graph.tensors[mac.source].zero_point
        for group in range(mac.shape.groups):
            im2col(inference.values, start, row, group, padding, out[group])
        return out
