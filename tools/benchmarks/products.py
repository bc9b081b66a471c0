"""int8 products of layers, on each path of `emulator.simd`, against ONNX Runtime in the same process on one thread.

A chain of convolutions with their requantisation, as ONNX Runtime's QLinearConv does both; it alternates between c and
n channels. A figure is the median of several runs, the competitors taking turns. `limit` is the same dot products on
operands that stay in one cache line: what the instruction itself allows on this core.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from emulator import simd
from emulator.instructions import CHOSEN, VARIABLE, available
from emulator.jit import kernel

ROUNDS = 7
CHAIN = 16
STEPS = 200_000
SCALE = np.float32(2**-9)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A convolution on size x size pixels; `depthwise` has n = c."""

    name: str
    size: int
    c: int
    n: int
    window: int
    depthwise: bool = False

    @property
    def macs(self) -> int:
        """Of one of the chain."""
        return self.size**2 * self.window**2 * self.n * (1 if self.depthwise else self.c)


LAYERS = (
    Layer(name="ResNet-20 16", size=32, c=16, n=16, window=3),
    Layer(name="ResNet-20 32", size=16, c=32, n=32, window=3),
    Layer(name="ResNet-20 64", size=8, c=64, n=64, window=3),
    Layer(name="ResNet-20 first", size=32, c=3, n=16, window=3),
    *(
        Layer(name=f"MobileNet dw {c}", size=size, c=c, n=c, window=3, depthwise=True)
        for size, c in ((48, 8), (24, 32), (12, 64), (6, 128), (3, 256))
    ),
    *(
        Layer(name=f"MobileNet pw {c}-{n}", size=size, c=c, n=n, window=1)
        for size, c, n in ((48, 8, 16), (24, 32, 32), (12, 64, 64), (6, 128, 128), (3, 256, 256))
    ),
)


def main() -> None:
    """Print the tables, or JSON; one process a path."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--this-path", action="store_true", help="measure the path of this process alone")
    wanted = parser.parse_args()
    if wanted.this_path:
        print(json.dumps(measure()))
        return
    report = {"machine": machine(), "rounds": ROUNDS, "paths": [in_a_process(name) for name in available()]}
    print(json.dumps(report, indent=2) if wanted.json else table(report))


def machine() -> dict[str, Any]:
    """What it was measured on."""
    model = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line]
    return {
        "cpu": model[0].partition(":")[2].strip() if model else platform.processor(),
        "python": platform.python_version(),
        "onnxruntime": ort.__version__,
    }


def in_a_process(path: str) -> dict[str, Any]:
    """The figures of one path."""
    done = subprocess.run(
        [sys.executable, __file__, "--this-path"],
        env=os.environ | {VARIABLE: path},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def measure() -> dict[str, Any]:
    """GMAC/s of every layer, and of the instruction."""
    return {"path": CHOSEN.name, "limit": limit(), "layers": [rates(layer) for layer in LAYERS]}


def limit() -> float | None:
    """GMAC/s of dot products on operands in registers."""
    if CHOSEN.name == "plain":
        return None
    from emulator.simd.dense import _ROWS_2, _multiply
    from emulator.simd.vectors import LANES, blank, load, places, store
    from emulator.simd.words import PER_WORD

    @kernel
    def spin(
        words: npt.NDArray[np.int32], taps: npt.NDArray[np.int32], out: npt.NDArray[np.int32], steps: int
    ) -> None:
        tile = load(blank(_ROWS_2, 2), words, 0, 0)
        where = places(tile, taps, 0, 1, 0)
        for step in range(steps):
            tile = _multiply(tile, words, where, step & 15, words, 0, LANES)
        store(tile, out, 0, 2 * LANES)

    words, taps, out = simd.aligned(64), np.zeros(64, np.int32), simd.aligned(1024)
    seconds = in_turns({"spin": lambda: spin(words, taps, out, STEPS)})["spin"]
    return STEPS * _ROWS_2 * 2 * LANES * PER_WORD / seconds / 1e9


def rates(layer: Layer) -> dict[str, Any]:
    """GMAC/s of ours, with and without requantisation, and of ONNX Runtime."""
    rng = np.random.default_rng(0)
    weights = [
        rng.integers(-127, 128, (n, 1 if layer.depthwise else c, layer.window, layer.window)).astype(np.int8)
        for c, n in [(layer.c, layer.n), (layer.n, layer.c)] * (CHAIN // 2)
    ]
    image = rng.integers(-128, 128, (layer.size**2, layer.c)).astype(np.int8)
    biases = [rng.integers(-1000, 1000, len(weight)).astype(np.int32) for weight in weights]
    session = onnx_chain(layer, weights, biases)
    feeds = {
        "x": (image.T.reshape(1, layer.c, layer.size, layer.size).astype(np.int16) + 128).astype(np.uint8)
    }
    ours, products, result = our_chain(layer, weights, biases, image)
    seconds = in_turns({"ours": ours, "products": products, "ort": lambda: session.run(None, feeds)})
    theirs = session.run(None, feeds)[0].reshape(layer.c, -1).T.astype(np.int16) - 128
    assert np.array_equal(result(), theirs), layer.name
    speed = {name: CHAIN * layer.macs / spent / 1e9 for name, spent in seconds.items()}
    return {"name": layer.name, **speed, "ratio": speed["ours"] / speed["ort"]}


def onnx_chain(
    layer: Layer, weights: list[npt.NDArray[np.int8]], biases: list[npt.NDArray[np.int32]]
) -> ort.InferenceSession:
    """QLinearConv after QLinearConv: uint8 with zero point 128, int8 weights with 0."""
    scales = {"one": np.float32(1), "scale": SCALE, "mid": np.uint8(128), "zero": np.int8(0)}
    constants = {name: np.asarray(value) for name, value in scales.items()}
    nodes = []
    for step, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        constants |= {f"w{step}": weight, f"b{step}": bias}
        inputs = [
            "x" if step == 0 else f"y{step - 1}",
            "one",
            "mid",
            f"w{step}",
            "scale",
            "zero",
            "one",
            "mid",
        ]
        nodes.append(
            helper.make_node(
                "QLinearConv",
                [*inputs, f"b{step}"],
                [f"y{step}"],
                pads=[layer.window // 2] * 4,
                group=layer.c if layer.depthwise else 1,
            )
        )
    shape = [1, layer.c, layer.size, layer.size]
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, shape)],
        [helper.make_tensor_value_info(f"y{len(weights) - 1}", TensorProto.UINT8, shape)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def our_chain(
    layer: Layer,
    weights: list[npt.NDArray[np.int8]],
    biases: list[npt.NDArray[np.int32]],
    image: npt.NDArray[np.int8],
) -> tuple[Callable[[], None], Callable[[], None], Callable[[], npt.NDArray[np.int8]]]:
    """The chain, its products alone, and the result of the chain."""
    widest, taps = max(layer.c, layer.n), window_taps(layer)
    lines = [weight.transpose(2, 3, 1, 0).reshape(1, -1, len(weight)) for weight in weights]
    packs = [
        simd.pack_depthwise(line[0]) if layer.depthwise else simd.pack(line, weight.shape[1])
        for line, weight in zip(lines, weights, strict=True)
    ]
    sizes = np.cumsum([0, *map(len, packs)])
    packed = simd.aligned(int(sizes[-1]))
    packed[:] = np.concatenate(packs)
    bias, scale = np.concatenate(biases), np.full(widest, SCALE, np.float32)
    values, acc = np.zeros(len(taps) * widest, np.int8), np.zeros(len(taps) * widest, np.int32)

    def chain(requantised: bool) -> None:
        values[: image.size] = image.reshape(-1)
        run_chain(
            values, taps, packed, sizes, bias, scale, acc, layer.c, layer.n, layer.depthwise, requantised
        )

    return (
        lambda: chain(True),
        lambda: chain(False),
        lambda: (chain(True), values[: image.size].reshape(image.shape).copy())[1],
    )


def window_taps(layer: Layer) -> npt.NDArray[np.int32]:
    """(pixels, window ** 2): the pixel under each tap, -1 outside; "same" padding."""
    size, reach = layer.size, layer.window // 2
    padded = np.full((size + 2 * reach,) * 2, -1, np.int32)
    padded[reach : reach + size, reach : reach + size] = np.arange(size**2).reshape(size, size)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (layer.window,) * 2)
    return np.ascontiguousarray(windows.reshape(size**2, -1))


@kernel
def run_chain(
    values: npt.NDArray[np.int8],
    taps: npt.NDArray[np.int32],
    packed: npt.NDArray[np.int32],
    sizes: npt.NDArray[np.int64],
    bias: npt.NDArray[np.int32],
    scale: npt.NDArray[np.float32],
    acc: npt.NDArray[np.int32],
    c: int,
    n: int,
    depthwise: bool,
    requantised: bool,
) -> None:
    """Layer after layer, in place."""
    pixels, bias_at = len(taps), 0
    for step in range(len(sizes) - 1):
        weights, begin = packed[sizes[step] : sizes[step + 1]], bias[bias_at : bias_at + n]
        sums = acc[: pixels * n].reshape((pixels, n))
        if depthwise:
            simd.depthwise(values[: pixels * c], c, taps, 0, weights, begin, sums)
        else:
            simd.conv(values[: pixels * c], c, 1, taps, 0, weights, begin, sums)
        if requantised:
            simd.requantise_rows(sums, scale[:n], 0, -128, 127, values[: pixels * n].reshape((pixels, n)))
        bias_at += n
        c, n = n, c


def in_turns(runs: dict[str, Callable[[], object]]) -> dict[str, float]:
    """The median seconds of each, the competitors taking turns; a run repeats for about 5 ms."""
    repeats = {}
    for name, measured in runs.items():
        measured()
        start = time.perf_counter()
        measured()
        repeats[name] = max(1, int(0.005 / (time.perf_counter() - start)))
    spent: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(ROUNDS):
        for name, measured in runs.items():
            start = time.perf_counter()
            for _ in range(repeats[name]):
                measured()
            spent[name].append((time.perf_counter() - start) / repeats[name])
    return {name: median(found) for name, found in spent.items()}


def table(report: dict[str, Any]) -> str:
    """For people."""
    lines = [f"{report['machine']['cpu']}, median of {report['rounds']} runs, one core; GMAC/s"]
    for path in report["paths"]:
        most = f", the instruction alone {path['limit']:.0f}" if path["limit"] else ""
        lines.append(
            f"\n{path['path'] + most:36} {'products':>9} {'requantised':>12} {'ORT':>8} {'ratio':>7}"
        )
        lines += [
            f"{row['name']:36} {row['products']:9.1f} {row['ours']:12.1f} {row['ort']:8.1f} {row['ratio']:6.2f}x"
            for row in path["layers"]
        ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
