"""Networks before and after their layers were given bounds, of every form."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx_models import Builder, Tensor

from emulator.graph.load import Network, network_of
from emulator.graph.onnx_file import read_onnx
from emulator.graph.restriction import Bounds, restricted
from emulator.harden.ranges import Margin, Observed, bounds_of, observe

CALIBRATION = 40


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Subject:
    """A network before and after, and the inputs its bounds come from; others: inputs that are not among them."""

    before: Network
    after: Network
    observed: tuple[Observed, ...]
    bounds: tuple[Bounds, ...]
    inputs: npt.NDArray[np.float32] = field(repr=False)
    others: npt.NDArray[np.float32] = field(repr=False)


def subject_of(model: onnx.ModelProto, inputs: Any, others: Any, *, per: Any, margin: int = 0) -> Subject:
    before = network_of(model, Path("before.onnx"))
    observed = observe(before, inputs)
    bounds = bounds_of(observed, per=per, margin=Margin(lsb=margin))
    made = restricted(model, before.graph, bounds)
    onnx.checker.check_model(made, full_check=True)
    after = network_of(made, Path("after.onnx"))
    return Subject(before=before, after=after, observed=observed, bounds=bounds, inputs=inputs, others=others)


def qoperator(kind: type[np.int8] | type[np.uint8]) -> tuple[onnx.ModelProto, npt.NDArray[np.float32]]:
    """Two convolutions, the second grouped, and a classifier, as QLinearConv, QLinearConv and QGemm."""
    b = Builder(np.random.default_rng(3), form="qop", kind=kind)
    x = b.input((1, 2, 6, 5))
    plain = {"k": 18, "per_channel": True, "with_bias": True}
    pads = {"pads": [1, 1, 1, 1], "kernel_shape": [3, 3]}
    x = b.mac("Conv", x, (4, 2, 3, 3), (1, 4, 6, 5), channels=4, attributes=pads, **plain)
    x = b.mac("Conv", x, (6, 2, 3, 3), (1, 6, 6, 5), channels=6, attributes=pads | {"group": 2}, **plain)
    flat: Tensor = b.moved(x, "Flatten", [], (1, 180), keep=True)
    plain["k"] = 180
    x = b.mac("Gemm", flat, (180, 5), (1, 5), channels=5, axis=1, attributes={}, **plain)
    return b.model(x), b.rng.normal(0, 1.2, (2 * CALIBRATION, *b.input_shape[1:])).astype(np.float32)


def file_and_inputs(name: str, request: pytest.FixtureRequest) -> tuple[onnx.ModelProto, Any]:
    if name.startswith("qoperator"):
        return qoperator(np.int8 if name.endswith("s8") else np.uint8)
    bundled = request.getfixturevalue(name)
    return read_onnx(bundled.path)[0], bundled.inputs[: 2 * CALIBRATION]


FORMS = ["digits", "fashion", "qoperator-s8", "qoperator-u8"]
CASES = [(form, per) for form in FORMS for per in ("layer", "channel")]


def subject_for(request: pytest.FixtureRequest) -> Subject:
    """What a fixture with CASES as its params gives: each form with bounds a layer and a channel, no margin."""
    name, per = request.param
    model, inputs = file_and_inputs(name, request)
    return subject_of(model, inputs[:CALIBRATION], inputs[CALIBRATION:], per=per)
