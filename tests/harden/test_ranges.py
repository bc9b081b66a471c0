"""Range restriction: bounds against counting in NumPy, restricted networks against ONNX Runtime and the network
before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx_models import Builder
from oracle import check_every_tensor, session_of
from restricted_networks import CASES, Subject, qoperator, subject_for, subject_of

from emulator.errors import BadConfig, BadData, UnsupportedModel
from emulator.graph.golden import Golden
from emulator.graph.load import network_of
from emulator.graph.qgraph import MacLayer, TableOp
from emulator.graph.restriction import restricted
from emulator.harden.ranges import Margin, Observed, bounds_of, observe, unbounded

Array = npt.NDArray[Any]


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def subject(request: pytest.FixtureRequest) -> Subject:
    return subject_for(request)


def of_onnxruntime(network: Any, names: list[str], inputs: Array) -> list[dict[str, Array]]:
    session = session_of(network.reference, names)
    return [dict(zip(names, session.run(names, network.graph.feeds(image)), strict=True)) for image in inputs]


def signed(values: Array) -> npt.NDArray[np.int64]:
    """As stored: uint8 minus 128."""
    return values.astype(np.int64) - (128 if values.dtype == np.uint8 else 0)


# ---- bounds


def test_bounds_are_the_extremes_of_the_tensors_onnx_runtime_computes(subject: Subject) -> None:
    runs = of_onnxruntime(subject.before, [each.tensor for each in subject.bounds], subject.inputs)
    assert len(subject.bounds) == len(subject.before.graph.layers)
    for bounds in subject.bounds:
        seen = np.stack([np.moveaxis(signed(run[bounds.tensor])[0], bounds.axis - 1, 0) for run in runs], 1)
        seen = seen.reshape(len(bounds.low) if len(bounds.low) > 1 else 1, -1)
        assert bounds.low.tolist() == seen.min(axis=1).tolist()
        assert bounds.high.tolist() == seen.max(axis=1).tolist()


def observed_of(values: Array) -> Observed:
    """values (channels, n) int8."""
    counts = np.stack([np.bincount(row.astype(np.int64) + 128, minlength=256) for row in values])
    return Observed(layer="l", tensor="t", axis=1, counts=counts)


@given(
    values=st.lists(st.lists(st.integers(-90, 60), min_size=4, max_size=4), min_size=1, max_size=4),
    lsb=st.integers(0, 30),
    percent=st.sampled_from([0, 5, 12.5]),
)
def test_a_margin_widens_what_was_seen_and_stops_at_int8(
    values: list[list[int]], lsb: int, percent: float
) -> None:
    margin = Margin(lsb=lsb, relative=percent / 100)
    for per in ("layer", "channel"):
        rows = values if per == "channel" else [[value for row in values for value in row]]
        (found,) = bounds_of([observed_of(np.array(values, np.int8))], per=per, margin=margin)
        for row, low, high in zip(rows, found.low.tolist(), found.high.tolist(), strict=True):
            wider = lsb + -int(-(max(row) - min(row)) * percent // 100)
            assert (low, high) == (max(min(row) - wider, -128), min(max(row) + wider, 127))
        assert found.share == pytest.approx(np.mean(found.high.astype(int) - found.low + 1) / 256)
        assert found.stored_bytes == 2 * len(rows)


@pytest.mark.parametrize("percentile", [100, 99.9, 98, 90, 50])
def test_a_percentile_leaves_out_as_many_values_at_each_end(percentile: float) -> None:
    values = np.sort(np.random.default_rng(5).normal(0, 30, (3, 2000)).clip(-128, 127)).astype(np.int8)
    (found,) = bounds_of([observed_of(values)], per="channel", margin=Margin(), percentile=percentile)
    out = round(2000 * (100 - percentile) / 200)
    assert found.low.tolist() == values[:, out].tolist()
    assert found.high.tolist() == values[:, -1 - out].tolist()


def test_a_margin_is_read_as_it_is_written() -> None:
    assert Margin.parse("4") == Margin(lsb=4) and str(Margin(lsb=4)) == "4"
    assert Margin.parse("2.5%") == Margin(relative=0.025) and str(Margin(relative=0.025)) == "2.5%"


@pytest.mark.parametrize("text", ["", "four", "1.5", "-1", "-2%", "nan%", "inf%"])
def test_what_is_no_margin_is_refused(text: str) -> None:
    with pytest.raises(BadConfig, match="allowed"):
        Margin.parse(text)


def test_wrong_settings_are_refused(digits: Any) -> None:
    observed = [observed_of(np.zeros((1, 4), np.int8))]
    wrong: Any = "pixel"
    with pytest.raises(BadConfig, match="layer, channel"):
        bounds_of(observed, per=wrong, margin=Margin())
    for percentile in (0.999, 101, float("nan")):
        with pytest.raises(BadConfig, match="percentile"):
            bounds_of(observed, per="layer", margin=Margin(), percentile=percentile)
    with pytest.raises(BadData, match="calibration"):
        observe(digits.network, [])


# ---- the restricted file


def test_every_tensor_of_a_restricted_network_equals_onnx_runtime(subject: Subject) -> None:
    check_every_tensor(subject.after, [*subject.inputs[:4], *subject.others])


def test_onnx_runtime_clips_the_file_to_the_bounds(subject: Subject) -> None:
    """Inputs three times as strong as those that were calibrated on: what is beyond is set to the bound."""
    tight = [each for each in subject.bounds if each.restricts]
    names = [name for each in tight for name in (each.tensor, f"{each.tensor}/unrestricted")]
    session, beyond = session_of(subject.after.original, names), 0
    for image in 3 * subject.others[:10]:
        feeds = subject.after.graph.feeds(image)
        run = dict(zip(names, session.run(names, feeds), strict=True))
        for each in tight:
            free, given = (signed(run[name]) for name in (f"{each.tensor}/unrestricted", each.tensor))
            shape = [-1 if axis == each.axis else 1 for axis in range(free.ndim)]
            limits = [bound.astype(np.int64).reshape(shape) for bound in (each.low, each.high)]
            np.testing.assert_array_equal(given, np.clip(free, *limits))
            beyond += int((given != free).sum())
    assert beyond > 0


def test_on_the_calibration_inputs_nothing_changes(subject: Subject) -> None:
    before, after = Golden(subject.before.graph), Golden(subject.after.graph)
    differ = 0
    for image in subject.inputs:
        runs = before.run(image), after.run(image)
        for index, tensor in enumerate(subject.before.graph.tensors):
            if tensor.name in subject.after.graph.index:
                same = after.tensor(runs[1], subject.after.graph.index[tensor.name])
                np.testing.assert_array_equal(before.tensor(runs[0], index), same, err_msg=tensor.name)
        np.testing.assert_array_equal(before.logits(runs[0]), after.logits(runs[1]))
    for image in 3 * subject.others:
        differ += not np.array_equal(before.logits(before.run(image)), after.logits(after.run(image)))
    assert differ > 0


def test_bounds_a_layer_are_the_requantisers_and_bounds_a_channel_a_table_behind(subject: Subject) -> None:
    def tables(network: Any) -> list[TableOp]:
        return [op for op in network.graph.ops if isinstance(op, TableOp)]

    names = {layer.name: layer for layer in subject.after.graph.layers}
    assert list(names) == [layer.name for layer in subject.before.graph.layers]
    assert subject.after.graph.float_macs == subject.before.graph.float_macs
    per_layer = all(len(each.low) == 1 for each in subject.bounds)
    assert len(tables(subject.after)) == len(tables(subject.before)) + (0 if per_layer else len(names))
    for each in subject.bounds:
        rule = names[each.layer].requantisation
        assert rule is not None
        wanted = (each.low[0], each.high[0]) if per_layer else (-128, 127)
        assert (rule.low, rule.high) == wanted


def test_names_and_the_rest_of_the_graph_stay(subject: Subject) -> None:
    before, after = subject.before.original.graph, subject.after.original.graph
    kept = {node.name: node for node in after.node}
    for node in before.node:
        assert list(kept[node.name].input) == list(node.input)
    assert before.input == after.input and before.output == after.output
    assert {name for node in before.node for name in node.output} <= {
        name for node in after.node for name in node.output
    }


def test_bounds_that_leave_every_value_add_nothing(digits: Any) -> None:
    found = subject_of(
        digits.network.original, digits.inputs[:5], digits.inputs[:5], per="channel", margin=255
    )
    assert not any(each.restricts for each in found.bounds)
    assert found.after.original == found.before.original


@pytest.mark.parametrize("per", ["layer", "channel"])
def test_a_layer_with_a_relu_is_bounded_behind_it(per: str) -> None:
    """Conv, Relu, QuantizeLinear, zero points anywhere: what is bounded is what the file quantises."""
    b = Builder(np.random.default_rng(8), form="qdq")
    x = b.input((1, 2, 7, 6))
    for channels in (5, 3):
        x = b.mac(
            "Conv", x, (channels, x.shape[1], 1, 1), (1, channels, 7, 6), k=x.shape[1], channels=channels,
            per_channel=True, with_bias=True, activation="Relu", attributes={},
        )  # fmt: skip
    inputs = b.rng.normal(0, 1.2, (20, 2, 7, 6)).astype(np.float32)
    found = subject_of(b.model(x), inputs[:10], inputs[10:], per=per)
    for layer, bounds in zip(found.before.graph.layers, found.bounds, strict=True):
        zero = found.before.graph.tensors[found.before.graph.index[bounds.tensor]].zero_point
        assert bounds.layer == layer.name and bounds.low.min() == zero > -128
        assert found.before.graph.tensors[layer.target].name != bounds.tensor
    check_every_tensor(found.after, 3 * inputs)


def test_layers_whose_result_is_no_int8_tensor_stay_without_bounds(digits: Any) -> None:
    """The classifier's sums go on as floats."""
    model = onnx.ModelProto()
    model.CopyFrom(digits.network.original)
    nodes = {node.name: node for node in model.graph.node}
    for name in ("logits_QuantizeLinear", "logits_DequantizeLinear"):
        model.graph.node.remove(nodes[name])
    nodes["fc"].output[0] = "logits"
    found = subject_of(model, digits.inputs[:8], digits.inputs[8:16], per="channel")
    assert unbounded(found.before, found.observed) == [found.before.graph.layers[-1].name]
    assert [each.layer for each in found.bounds] == ["conv1", "conv2"]
    check_every_tensor(found.after, digits.inputs[:4])


def test_operators_from_before_clip_had_inputs_are_refused() -> None:
    model, inputs = qoperator(np.int8)
    del model.opset_import[:]
    model.opset_import.extend(
        [onnx.helper.make_opsetid("", 10), onnx.helper.make_opsetid("com.microsoft", 1)]
    )
    network = network_of(model, Path("old.onnx"))
    bounds = bounds_of(observe(network, list(inputs[:4])), per="layer", margin=Margin())
    with pytest.raises(UnsupportedModel, match="opset 10; allowed: 11"):
        restricted(model, network.graph, bounds)


def test_a_restricted_file_can_be_restricted_again(digits: Any) -> None:
    once = subject_of(digits.network.original, digits.inputs[:40], digits.inputs[40:50], per="channel")
    for per in ("layer", "channel"):
        twice = subject_of(once.after.original, digits.inputs[:5], digits.inputs[40:50], per=per)
        assert all(isinstance(layer, MacLayer) for layer in twice.after.graph.layers)
        check_every_tensor(twice.after, digits.inputs[40:44])
