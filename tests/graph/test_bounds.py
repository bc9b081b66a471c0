"""Bounds behind products, of a layer and of a channel: which become a part of the layer, which a table, and that every
integer is ONNX Runtime's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx_models import Builder, Tensor
from oracle import check_every_tensor, lsb_from_original

from emulator.graph.golden import Golden
from emulator.graph.load import Network, network_of
from emulator.graph.qgraph import HostOp, MacLayer, TableOp

CHANNELS = 5
Step = Callable[[Builder, str, float], str]


def number(value: float) -> Callable[[Builder, float, tuple[int, ...]], str]:
    return lambda b, unit, shape: b.constant("bound", np.float32(value * unit))


def each(low: float, high: float) -> Callable[[Builder, float, tuple[int, ...]], str]:
    """One number a channel."""
    return lambda b, unit, shape: b.constant(
        "bounds", (b.rng.uniform(low, high, shape) * unit).astype(np.float32)
    )


# What stands between a product and its QuantizeLinear; bounds in LSB of the result.
LOW, HIGH = each(-60, -10), each(10, 60)
CHAINS: dict[str, list[tuple[str, list[Any]]]] = {
    "clip": [("Clip", ["x", number(-31.3), number(47.6)])],
    "relu-clip": [("Relu", ["x"]), ("Clip", ["x", number(-5), number(33.4)])],
    "max-min": [("Max", ["x", number(-22)]), ("Min", [number(41.4), "x"])],
    "channels": [("Max", ["x", LOW]), ("Min", ["x", HIGH])],
    "channels-first": [("Min", [HIGH, "x"]), ("Max", [LOW, "x"])],
    "relu-channels": [("Relu", ["x"]), ("Min", ["x", HIGH])],
}
# In whole LSB from the zero point.
FOLDED = {"clip": (-31, 48), "relu-clip": (0, 33), "max-min": (-22, 41)}


def bounded(b: Builder, x: Tensor, op: str, chain: Sequence[tuple[str, list[Any]]]) -> Tensor:
    """A product, the chain and a QuantizeLinear, in the file's own order."""
    if op == "Conv":
        names, _ = b.weight((CHANNELS, x.shape[1], 3, 3), CHANNELS, True)
        shape, constants = (1, CHANNELS, *(size - 2 for size in x.shape[2:])), (1, CHANNELS, 1, 1)
    else:
        names, _ = b.weight((x.shape[-1], CHANNELS), CHANNELS, False)
        shape, constants = (*x.shape[:-1], CHANNELS), (CHANNELS,)
    value = b.node(op, [b.real(x), b.node("DequantizeLinear", names, axis=0)])
    unit = x.scale * 0.4
    for name, operands in chain:
        inputs = [value if each == "x" else each(b, unit, constants) for each in operands]
        value = b.node(name, inputs)
    return b.quantise(value, shape, unit)


INPUTS = {"Conv": (1, 3, 6, 7), "Gemm": (1, 11), "MatMul": (1, 4, 9)}


def network(op: str, chain: Any, kind: Any = np.int8, seed: int = 0) -> tuple[Network, Any]:
    b = Builder(np.random.default_rng(seed), kind=kind)
    x = bounded(b, b.input(INPUTS[op]), op, chain)
    images = b.rng.normal(0, 2, (20, *b.input_shape[1:])).astype(np.float32)
    return network_of(b.model(x), Path("bounded.onnx")), images


def of_kind(found: Network, kind: type) -> list[Any]:
    return [op for op in found.graph.ops if isinstance(op, kind)]


@pytest.mark.parametrize("kind", [np.int8, np.uint8])
@pytest.mark.parametrize("op", INPUTS)
@pytest.mark.parametrize("name", CHAINS)
def test_bounds_behind_a_product_are_exact_and_on_the_array(name: str, op: str, kind: Any) -> None:
    for seed in range(3):
        found, images = network(op, CHAINS[name], kind, seed)
        golden = check_every_tensor(found, images)
        for image in images[:5]:
            assert lsb_from_original(found, golden, image) <= 1
        (layer,) = of_kind(found, MacLayer)
        assert found.graph.float_macs == () and len(of_kind(found, HostOp)) == 1  # the input's QuantizeLinear
        tables = of_kind(found, TableOp)
        rule = layer.requantisation
        if name in FOLDED:
            ends = [rule.zero_point + end for end in FOLDED[name]]
            assert not tables and [rule.low, rule.high] == np.clip(ends, -128, 127).tolist()
        else:
            assert [table.table.shape for table in tables] == [(CHANNELS, 256)]
            assert (rule.low, rule.high) == (-128, 127)


def test_what_is_read_before_its_bounds_keeps_them_apart() -> None:
    """The layer's own result is an output as well."""
    b = Builder(np.random.default_rng(2), form="qop")
    plain: dict[str, Any] = {"k": 18, "channels": 4, "per_channel": False, "with_bias": False}
    free = b.mac(
        "Conv",
        b.input((1, 2, 5, 5)),
        (4, 2, 3, 3),
        (1, 4, 3, 3),
        attributes={"kernel_shape": [3, 3]},
        **plain,
    )
    limits = [b.constant("limit", b.kind(value)) for value in (-20, 30)]
    clipped = b.like(free, b.node("Clip", [free.name, *limits]), free.shape)
    model = b.model(clipped)
    images = b.rng.normal(0, 2, (6, 2, 5, 5)).astype(np.float32)
    alone = network_of(model, Path("alone.onnx"))
    assert not of_kind(alone, TableOp) and alone.graph.layers[0].requantisation.high == 30
    check_every_tensor(alone, images)
    b.nodes.pop()  # the answer
    joined = b.node("Concat", [free.name, clipped.name], axis=1)
    model = b.model(b.like(free, joined, (1, 8, 3, 3)))
    shared = network_of(model, Path("shared.onnx"))
    assert len(of_kind(shared, TableOp)) == 1 and shared.graph.layers[0].requantisation.high == 127
    check_every_tensor(shared, images)


@pytest.mark.parametrize("operator", ["Mul", "Add", "PRelu", "Sub"])
def test_any_operator_with_a_constant_a_channel_is_a_table_a_channel(operator: str) -> None:
    b = Builder(np.random.default_rng(4))
    x = bounded(b, b.input(INPUTS["Conv"]), "Conv", [])
    slope = b.constant("slope", b.rng.uniform(0.2, 1.5, (CHANNELS, 1, 1)).astype(np.float32))
    x = b.quantise(b.node(operator, [b.real(x), slope]), x.shape, x.scale * 0.9)
    found = network_of(b.model(x), Path("channels.onnx"))
    (table,) = of_kind(found, TableOp)
    assert table.table.shape == (CHANNELS, 256) and len(np.unique(table.table, axis=0)) > 1
    check_every_tensor(found, b.rng.normal(0, 2, (10, *b.input_shape[1:])).astype(np.float32))


@pytest.mark.parametrize(
    ("operator", "shape"),
    [("Max", (1, 1, 4, 5)), ("Max", (1, CHANNELS, 4, 1)), ("Max", (4, 1)), ("Pow", (1, CHANNELS, 1, 1))],
)
def test_constants_that_are_not_of_channels_are_left_to_onnx_runtime(
    operator: str, shape: tuple[int, ...]
) -> None:
    b = Builder(np.random.default_rng(5))
    x = bounded(b, b.input(INPUTS["Conv"]), "Conv", [])
    constant = b.constant("constant", b.rng.uniform(0.5, 1, shape).astype(np.float32))
    x = b.quantise(b.node(operator, [b.node("Abs", [b.real(x)]), constant]), x.shape, x.scale)
    found = network_of(b.model(x), Path("elements.onnx"))
    assert not of_kind(found, TableOp) and len(of_kind(found, HostOp)) == 2
    check_every_tensor(found, b.rng.normal(0, 2, (5, *b.input_shape[1:])).astype(np.float32))


@pytest.mark.parametrize("operator", ["Abs", "Neg", "Clip"])
def test_of_tables_only_bounds_become_a_part_of_the_layer(operator: str) -> None:
    """All with the quantisation of the layer's result."""
    b = Builder(np.random.default_rng(7))
    free = bounded(b, b.input(INPUTS["Conv"]), "Conv", [])
    limits = [b.constant("limit", np.float32(value * free.scale)) for value in (-20, 30)]
    value = b.node(operator, [b.real(free), *(limits if operator == "Clip" else [])])
    found = network_of(b.model(b.quantise(value, free.shape, free.scale, like=free)), Path("tables.onnx"))
    assert len(of_kind(found, TableOp)) == (0 if operator == "Clip" else 1)
    check_every_tensor(found, b.rng.normal(0, 2, (5, *b.input_shape[1:])).astype(np.float32))


def test_a_relu_alone_stays_behind_the_array() -> None:
    b = Builder(np.random.default_rng(6))
    found = network_of(
        b.model(bounded(b, b.input(INPUTS["Conv"]), "Conv", [("Relu", ["x"])])), Path("relu.onnx")
    )
    assert len(of_kind(found, TableOp)) == 1
    rule = found.graph.layers[0].requantisation
    assert rule is not None and (rule.low, rule.high) == (-128, 127)
    assert isinstance(Golden(found.graph).graph.layers[0].target, int)
    onnx.checker.check_model(found.reference)


@pytest.mark.parametrize("channels", [255, 256])
def test_a_bias_behind_a_movement_is_no_table(channels: int) -> None:
    """256 of them would meet the 256 stored values one by one."""
    b = Builder(np.random.default_rng(1))
    x = b.input((1, 2, 8))
    names, _ = b.weight((8, channels), channels, True)
    product = b.node("MatMul", [b.real(x), b.node("DequantizeLinear", names, axis=1)])
    x = b.quantise(product, (1, 2, channels), x.scale * 0.4)
    moved = b.node("Transpose", [b.real(x)], perm=[1, 0, 2])
    bias = b.constant("bias", b.rng.normal(0, 20 * x.scale, channels).astype(np.float32))
    gelu = b.node("BiasGelu", [moved, bias], domain="com.microsoft")
    network = network_of(b.model(b.quantise(gelu, (2, 1, channels), x.scale)), Path("gelu.onnx"))
    assert not any(isinstance(op, TableOp) for op in network.graph.ops)
    check_every_tensor(network, b.rng.normal(0, 1.2, (3, 2, 8)).astype(np.float32))
