"""The parts of `emulator check`, each against an outside oracle: NumPy in 64 bits, ONNX Runtime, the cycle engine."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization.qdq_loss_debug import compute_signal_to_quantization_noice_ratio
from scipy.stats import binomtest

from emulator.array.spec import ArraySpec
from emulator.array.tiling import schedule
from emulator.campaign.check import check
from emulator.campaign.inputs import Samples, random_samples
from emulator.campaign.validation import layers
from emulator.campaign.validation.answers import Answers
from emulator.campaign.validation.differences import Difference, compare, origins
from emulator.campaign.validation.headroom import Headroom, partial_sums, signed_bits
from emulator.campaign.validation.layers import Product
from emulator.campaign.validation.report import LAYER_COLUMNS, CheckReport
from emulator.errors import BadConfig
from emulator.gemm import GemmShape
from emulator.graph.deployment import DeployedTensor, Deployment, deploy
from emulator.graph.float_model import match
from emulator.graph.golden import Golden
from emulator.graph.input_quantisers import InputQuantisers
from emulator.graph.load import Network, load
from emulator.graph.quantize import QuantizeOptions, quantize
from emulator.graph.session import open_session, with_outputs

INT32 = np.iinfo(np.int32)
GEMMINI = ArraySpec.preset("gemmini-16")
MODELS = Path(__file__).parents[1] / "data/models"


def samples_of(bundled: Any, count: int) -> Samples:
    with np.load(bundled.data) as arrays:
        return Samples(inputs=arrays["inputs"][:count], labels=arrays["labels"][:count])


def float_of(bundled: Any) -> onnx.ModelProto:
    return onnx.load(bundled.path.with_name(bundled.path.name.replace("_int8", "_float")))


def run_ort(model: onnx.ModelProto, names: list[str], inputs: Any) -> dict[str, npt.NDArray[Any]]:
    """One sample at a time, as the QLinear form takes them."""
    session = open_session(with_outputs(model, names))
    rows = [session.run(names, {"input": sample[np.newaxis]}) for sample in inputs]
    return {name: np.concatenate(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}


# ---- headroom


@given(st.integers(-(2**40), 0), st.integers(0, 2**40))
def test_signed_bits_is_the_narrowest_register(low: int, high: int) -> None:
    bits = signed_bits(low, high)
    assert -(2 ** (bits - 1)) <= low <= high < 2 ** (bits - 1)
    assert bits == 1 or not -(2 ** (bits - 2)) <= low <= high < 2 ** (bits - 2)


@given(
    st.integers(1, 5), st.integers(1, 40), st.integers(1, 5), st.integers(1, 16), st.integers(0, 2**32 - 1)
)
def test_partial_sums_equal_a_cumulative_sum_of_each_fold(
    m: int, k: int, n: int, rows: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    act = random.integers(-128, 128, (m, k)).astype(np.int8)
    wgt = random.integers(-128, 128, (k, n)).astype(np.int8)
    terms = act.astype(np.int64)[:, :, None] * wgt.astype(np.int64)[None]
    sums = np.concatenate([terms[:, at : at + rows].cumsum(axis=1) for at in range(0, k, rows)], axis=1)
    found = np.zeros(3, np.int64)
    partial_sums(act, wgt, np.append(np.arange(0, k, rows), k), 1 << 13, found)
    over = ((sums < -(1 << 13)) | (sums >= 1 << 13)).sum()
    assert found.tolist() == [min(sums.min(), 0), max(sums.max(), 0), over]


def test_a_sum_beyond_int32_is_counted() -> None:
    """131,072 products of -128 x -128 are 2^31: one too many for an int32 accumulator."""
    for k, bias, overflowed in ((131_071, 0, 0), (131_072, -1, 0), (131_072, 0, 1)):
        act, wgt = np.full((1, 2, k), -128, np.int8), np.full((1, k, 1), -128, np.int8)
        act[:, 1] = 0
        headroom = Headroom.of(GEMMINI, schedule(GEMMINI, GemmShape(m=2, k=k, n=1)))
        headroom.add(Product(act, wgt, np.full((1, 1), bias, np.int32)))
        exact = act.astype(np.int64) @ wgt.astype(np.int64) + bias
        assert headroom.accumulator.high == exact.max()
        assert headroom.accumulator.overflowed == overflowed
        assert headroom.accumulator.bits_needed == 32 + overflowed


def test_sums_are_exact_beyond_the_24_bits_of_float32() -> None:
    act, wgt = np.full((1, 1, 4097), 127, np.int8), np.full((1, 4097, 1), 127, np.int8)
    headroom = Headroom.of(GEMMINI, schedule(GEMMINI, GemmShape(m=1, k=4097, n=1)))
    headroom.add(Product(act, wgt, np.zeros((1, 1), np.int32)))
    assert headroom.accumulator.high == 4097 * 127 * 127


@pytest.mark.parametrize("dataflow", ["ws", "os"])
def test_columns_too_narrow_overflow_exactly_where_the_cycle_engine_goes_wrong(
    digits: Any, dataflow: Any
) -> None:
    verdicts = set()
    for bits in (20, 18, 17, 16, 14):
        array = replace(digits.array, psum_bits=bits, dataflow=dataflow)
        report = check(digits.network, array, samples_of(digits, 1))
        for layer in report.layers:
            verdicts.add((bits, bool(layer["partial_sum_overflowed"])))
            # A sum that wraps inside a fold may come back; one that stays in range can't go wrong.
            if layer["engine_mismatches"]:
                assert layer["partial_sum_overflowed"]
            if layer["partial_sum_bits_needed"] <= bits:
                assert layer["engine_mismatches"] == layer["partial_sum_overflowed"] == 0
    assert {(20, False), (14, True)} <= verdicts


def with_bias(network: Network, bias: int) -> Network:
    """The network with one bias of its first layer replaced, modulo 2^32."""
    graph = network.graph
    first = graph.layers[0]
    folded = first.bias.astype(np.int64)
    folded[0, 0] = bias
    changed = replace(first, bias=folded.astype(np.int32))
    ops = tuple(changed if op is first else op for op in graph.ops)
    return replace(network, graph=replace(graph, ops=ops))


def test_biases_that_are_clipped_or_wrap_are_counted(fashion: Any) -> None:
    graph = fashion.network.graph
    shift = (
        graph.tensors[graph.layers[0].source].zero_point * graph.layers[0].weight[0, :, 0].astype(int).sum()
    )
    assert shift != 0
    assert layers.bias_overflow(graph, 0) == (0, 0)
    towards, away = (INT32.min + 1, INT32.max) if shift > 0 else (INT32.max - 1, INT32.min)
    assert layers.bias_overflow(with_bias(fashion.network, away).graph, 0) == (1, 0)
    assert layers.bias_overflow(with_bias(fashion.network, towards).graph, 0) == (0, 1)


# ---- saturation


def test_clipping_is_counted_as_in_the_float_tensors_of_onnxruntime(bundled: Any) -> None:
    """The original QDQ file holds every MAC output in float before it is quantised and clipped."""
    inputs = bundled.inputs[:40]
    narrow = quantize(float_of(bundled), inputs[:2] * 0.6)  # a calibration that clips a lot
    report, network = report_of(narrow, inputs, bundled)
    assert any(layer["saturated_high_share"] > 0.01 for layer in report.layers)
    assert any(layer["saturated_relu_share"] > 0.01 for layer in report.layers)
    constants = {t.name: numpy_helper.to_array(t) for t in narrow.graph.initializer}
    for index, layer in enumerate(report.layers):
        target = layers.target(network.graph, index)
        quantise = next(node for node in narrow.graph.node if target.name in node.output)
        real = run_ort(narrow, [quantise.input[0]], inputs)[quantise.input[0]]
        codes = np.rint(real / constants[quantise.input[1]]) + constants[quantise.input[2]]
        below = "relu" if target.zero_point == -128 else "low"
        assert layer["saturated_high_share"] == pytest.approx((codes > 127).mean(), abs=1e-4)
        assert layer[f"saturated_{below}_share"] == pytest.approx((codes < -128).mean(), abs=1e-4)
        assert layer["saturated_low_share" if below == "relu" else "saturated_relu_share"] == 0


def wide_codes(values: Any, low: float, high: float) -> Any:
    """What ONNX Runtime quantises to with room for 16 bits: code 0 stands for `low`, 255 for `high`."""
    node = helper.make_node("QuantizeLinear", ["x", "s"], ["y"], output_dtype=TensorProto.INT16)
    scale = numpy_helper.from_array(np.float32((high - low) / 255), "s")
    made = helper.make_graph(
        [node],
        "wide",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, values.shape)],
        [helper.make_tensor_value_info("y", TensorProto.INT16, values.shape)],
        [scale],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    return open_session(model).run(None, {"x": values})[0] - round(low / float((high - low) / 255))


def test_inputs_that_their_scale_cannot_hold_are_counted(digits: Any) -> None:
    """Calibrated on images a tenth as bright, then given values on both sides of either end."""
    network = network_of(quantize(float_of(digits), digits.inputs[:100] * np.float32(0.1)))
    images = np.random.default_rng(0).uniform(-0.02, 0.12, (200, 1, 8, 8)).astype(np.float32)
    report = check(network, digits.array, images, cycle_images=0)
    [found] = report.inputs
    assert (found["name"], found["lowest"], found["highest"]) == pytest.approx(("input", 0, 0.1))
    codes = wide_codes(images, found["lowest"], found["highest"])
    assert found["saturated_high_share"] == (codes > 255).mean() > 0.1
    assert found["saturated_low_share"] == (codes < 0).mean() > 0.1
    share = 100 * (found["saturated_high_share"] + found["saturated_low_share"])
    assert report.warnings[0].startswith(
        f"input 'input': {share:.1f} % of values are outside what its scale can hold [0, 0.1]"
    )
    assert report.layer_rows[0][:5] == [
        "input input", "-", "-", f"{100 * (codes > 255).mean():.2f} %", f"{100 * (codes < 0).mean():.2f} %",
    ]  # fmt: skip


def test_inputs_like_those_of_calibration_are_not_warned_of(bundled: Any) -> None:
    report = check(bundled.network, bundled.array, bundled.inputs[:30], cycle_images=0)
    assert [given["saturated_high_share"] + given["saturated_low_share"] for given in report.inputs] == [0]
    assert not any(text.startswith("input ") for text in report.warnings)


@pytest.mark.parametrize(
    ("file", "names"),
    [
        ("two_inputs_qdq_u8s8", ["side", "x"]),
        ("keras_cnn_qdq_u8s8", ["pixels"]),  # through a Reshape
        ("lstm_qdq_s8s8", ["x"] * 5),  # a part each
        ("uint8_io_qop_u8u8", []),
        ("torch_mobilenet_dynamic", []),
    ],
)
def test_quantised_inputs_are_found(file: str, names: list[str]) -> None:
    network = load(MODELS / f"{file}.onnx")
    found = InputQuantisers.of(network)
    assert [each.name for each in found.quantisers] == names
    samples = random_samples(network.graph, 3, 0).inputs
    for quantiser, values in zip(found.quantisers, found.values(samples), strict=True):
        low, high = quantiser.range
        assert (
            quantiser.clipped(np.full_like(values, low))
            == quantiser.clipped(np.full_like(values, high))
            == (0, 0)
        )
        assert quantiser.clipped(np.full_like(values, high + 0.1)) == (values.size, 0)
        assert quantiser.clipped(np.full_like(values, low - 0.1)) == (0, values.size)


def report_of(model: onnx.ModelProto, inputs: Any, bundled: Any) -> tuple[CheckReport, Network]:
    network = network_of(model)
    return check(network, bundled.array, Samples(inputs=inputs), cycle_images=0), network


def network_of(model: onnx.ModelProto) -> Network:
    """`load` takes files."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "made.onnx"
        onnx.save(model, file)
        return load(file)


def test_a_relu_that_follows_makes_the_lower_end_no_loss(fashion: Any) -> None:
    """Symmetric activations keep the Relu apart: the layer clips at -128, the Relu then drops all below 0."""
    inputs = fashion.inputs[:10]
    model = quantize(float_of(fashion), inputs * 0.1, options=QuantizeOptions(symmetric=True))
    report, network = report_of(model, inputs, fashion)
    followed = {node.input[0] for node in model.graph.node if node.op_type == "Relu"}
    followed = {node.input[0] for node in model.graph.node if node.output[0] in followed}
    ends = {"relu": 0.0, "low": 0.0}
    for index, layer in enumerate(report.layers):
        relu = layers.target(network.graph, index).name in followed
        assert layer["saturated_low_share" if relu else "saturated_relu_share"] == 0
        for end in ends:
            ends[end] += layer[f"saturated_{end}_share"]
    assert min(ends.values()) > 0


# ---- answers


def test_ties_are_counted() -> None:
    logits = np.array([[3, 3, 1], [0, 2, 1], [5, 5, 5], [1, 2, 9]], np.int8)
    answers = Answers(logits=logits, real=logits.astype(np.float32))
    assert answers.top1.tolist() == [0, 1, 0, 2]
    assert answers.at_maximum.tolist() == [2, 1, 3, 1]
    assert answers.mean_at_maximum == 7 / 4
    assert answers.tied_share == 1 / 2
    assert answers.accuracy(np.array([0, 1, 1, 2])).value == 3 / 4
    assert answers.dead == []


@pytest.mark.parametrize(
    ("logits", "scale", "reason"),
    [
        ([[1, 1, 1], [4, 4, 4]], 1.0, "equal"),
        ([[1, 2, 3], [1, 2, 3]], 1.0, "no logit varies"),
        ([[1, 2, 3], [1, 5, 3]], 1.0, "2 of 3 logits never vary"),
        ([[1, 2, 3], [7, 5, 4]], 1e-9, "below 1e-06"),
    ],
)
def test_dead_outputs_are_named(logits: list[list[int]], scale: float, reason: str) -> None:
    values = np.array(logits, np.int8)
    [found] = Answers(logits=values, real=values.astype(np.float32) * np.float32(scale)).dead
    assert reason in found


def test_one_sample_alone_is_not_called_frozen() -> None:
    values = np.array([[1, 2, 3]], np.int8)
    assert Answers(logits=values, real=values.astype(np.float32)).dead == []


# ---- the float model


def test_sqnr_equals_that_of_onnxruntime(bundled: Any) -> None:
    inputs = bundled.inputs[:30]
    model = float_of(bundled)
    report = check(bundled.network, bundled.array, Samples(inputs=inputs), cycle_images=0, float_model=model)
    reference = bundled.network.reference
    for index, layer in enumerate(report.layers):
        target = layers.target(bundled.network.graph, index)
        # onnxruntime.quantization names a quantised tensor after the float one: of the Relu, where there is one.
        name = target.name.removesuffix("_QuantizeLinear_Output")
        exact = run_ort(model, [name], inputs)[name]
        codes = run_ort(reference, [target.name], inputs)[target.name]
        real = (codes.astype(np.float32) - (target.zero_point + target.offset)) * np.float32(target.scale)
        expected = compute_signal_to_quantization_noice_ratio(exact, real)
        assert layer["sqnr_db"] == pytest.approx(expected, abs=1e-3)
        assert 15 < layer["sqnr_db"] < 60
        channels = {
            channel: compute_signal_to_quantization_noice_ratio(exact[:, channel], real[:, channel])
            for channel in range(exact.shape[1])
            if exact[:, channel].any()  # a ReLU may leave nothing of one
        }
        assert layer["sqnr_worst_channel"] == min(channels, key=channels.__getitem__)
        assert layer["sqnr_worst_channel_db"] == pytest.approx(min(channels.values()), abs=1e-3)


def test_channels_that_a_loud_one_hides_are_warned_of(digits: Any) -> None:
    """A channel made 60 times as loud, and as quiet again in the weights that read it: the same float network."""
    model, images = float_of(digits), digits.inputs
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor).copy()
        if tensor.name.startswith("conv2"):
            values[0] *= 60
        elif tensor.name == "fc.weight":
            values.reshape(10, 8, -1)[:, 0] /= 60
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    [same] = run_ort(model, ["logits"], images[:9]).values()
    assert same == pytest.approx(run_ort(float_of(digits), ["logits"], images[:9])["logits"], abs=1e-4)
    network = network_of(quantize(model, images[:100], options=QuantizeOptions(per_channel=False)))
    report = check(network, digits.array, images[100:200], cycle_images=0, float_model=model)
    layer = report.layers[1]
    assert layer["sqnr_db"] > 20 > 10 > layer["sqnr_worst_channel_db"]
    assert layer["sqnr_worst_channel"] != 0 and 1 <= layer["sqnr_low_channels"] <= 7
    [warning] = [text for text in report.warnings if text.startswith("layer 'conv2': ")]
    assert f"{layer['sqnr_low_channels']} channels are below 10 dB" in warning
    assert "cross-layer equalisation" in warning and "--per-channel" in warning
    shown = dict(zip(LAYER_COLUMNS, report.layer_rows[2], strict=True))
    assert (shown["layer"], shown["worst"]) == ("conv2", f"{layer['sqnr_worst_channel_db']:.1f}")


def test_a_good_network_has_no_hidden_channels(bundled: Any) -> None:
    report = check(
        bundled.network, bundled.array, bundled.inputs[:30], cycle_images=0, float_model=float_of(bundled)
    )
    assert all(layer["sqnr_low_channels"] == 0 for layer in report.layers)


def test_a_quantised_model_is_no_float_model(digits: Any) -> None:
    with pytest.raises(BadConfig, match=r"float model is quantised; allowed: the float model .*--float"):
        match(digits.path, digits.network)


def test_layers_are_matched_by_node_else_by_tensor_else_by_position(digits: Any) -> None:
    model = float_of(digits)
    wanted = ("conv1_relu", "conv2_relu", "logits")
    assert match(model, digits.network).tensors == wanted
    for node in model.graph.node:
        node.name = ""
    assert match(model, digits.network).tensors == wanted
    renamed = onnx.load_model_from_string(model.SerializeToString())
    for node in renamed.graph.node:
        node.input[:] = [f"other_{name}" if name in wanted else name for name in node.input]
        node.output[:] = [f"other_{name}" if name in wanted else name for name in node.output]
    renamed.graph.output[0].name = "other_logits"
    del renamed.graph.value_info[:]
    assert match(renamed, digits.network).tensors == tuple(f"other_{name}" for name in wanted)


def test_agreement_and_accuracy_of_the_float_model(fashion: Any) -> None:
    samples = samples_of(fashion, 60)
    report = check(
        fashion.network, fashion.array, samples, cycle_images=0, float_model=float_of(fashion)
    ).to_json()
    theirs = run_ort(float_of(fashion), ["logits"], samples.inputs)["logits"].argmax(axis=1)
    ours = run_ort(fashion.network.reference, ["logits"], samples.inputs)["logits"].argmax(axis=1)
    assert report["top1_agreement_float"] == (ours == theirs).mean()
    assert report["accuracy_float"] == (theirs == samples.labels).mean()
    assert report["accuracy"] == (ours == samples.labels).mean()


def test_a_check_takes_the_file_that_a_campaign_takes(digits: Any) -> None:
    report = check(digits.network, digits.array, digits.data, limit=7, cycle_images=0)
    with np.load(digits.data) as arrays:
        labels = arrays["labels"][:7]
    assert report.labels is not None
    assert report.labels.tolist() == labels.tolist()
    same = check(digits.network, digits.array, samples_of(digits, 7), cycle_images=0)
    assert report.to_json() == same.to_json()


def test_accuracies_have_wilsons_interval(digits: Any) -> None:
    report = check(
        digits.network, digits.array, digits.data, limit=120, cycle_images=0, float_model=float_of(digits)
    )
    assert list(report.accuracies) == ["emulator", "original", "float"]
    with np.load(digits.data) as arrays:
        inputs, labels = arrays["inputs"][:120], arrays["labels"][:120]
    right = run_ort(digits.network.reference, ["logits"], inputs)["logits"].argmax(axis=1) == labels
    wilson = binomtest(int(right.sum()), 120).proportion_ci(method="wilson")
    found = report.accuracies["emulator"]
    assert (found.value, found.low, found.high) == pytest.approx((right.mean(), wilson.low, wilson.high))
    assert check(digits.network, digits.array, Samples(inputs=list(inputs[:2]))).accuracies == {}


def test_another_models_float_file_is_refused(digits: Any, fashion: Any) -> None:
    with pytest.raises(BadConfig, match=r"1, 28, 28.*1, 8, 8.*--float"):
        match(float_of(fashion), digits.network)


# ---- the file as deployed


def test_deployed_tensors_are_read_in_whatever_layout_the_optimiser_chose(bundled: Any) -> None:
    """All but a Reshape's are found, moved back from uint8 and channels last, and equal the QLinear form."""
    network, inputs = bundled.network, bundled.inputs[:6]
    found = deploy(network).run(network, inputs)
    assert len(found) >= len(network.graph.tensors) - 1
    reference = {n: v[:, np.newaxis] for n, v in run_ort(network.reference, list(found), inputs).items()}
    differences = compare(reference, found)
    assert max(d.max_lsb for d in differences.values()) <= 1
    assert sum(d.elements for d in differences.values()) <= 5


def cube() -> onnx.ModelProto:
    """Convolutions and a sum over 8 channels of 8 x 8: no shape tells channels first from channels last."""
    random = np.random.default_rng(0)
    nodes, constants, value = [], [], "input"
    for name in ("conv1", "conv2"):
        weight = random.standard_normal((8, 8, 3, 3)).astype(np.float32)
        constants.append(numpy_helper.from_array(weight, f"{name}_w"))
        nodes.append(helper.make_node("Conv", [value, f"{name}_w"], [f"{name}_out"], name=name, pads=[1] * 4))
        value = f"{name}_out"
    nodes.append(helper.make_node("Add", ["conv1_out", value], ["sum"], name="sum"))
    value = "sum"
    graph = helper.make_graph(
        nodes,
        "cube",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 8, 8, 8])],
        [helper.make_tensor_value_info(value, TensorProto.FLOAT, ["N", 8, 8, 8])],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_layout_is_known_even_where_all_sizes_are_equal() -> None:
    inputs = np.random.default_rng(1).standard_normal((4, 8, 8, 8)).astype(np.float32)
    options = QuantizeOptions(format="qoperator", activation="uint8")
    network = network_of(quantize(cube(), inputs, options=options))
    deployment = deploy(network)
    assert [t.operator for t in deployment.tensors if t.channels_last] == [
        "QLinearConv",
        "QLinearConv",
        "QLinearAdd",
    ]
    found = deployment.run(network, inputs)
    reference = {n: v[:, np.newaxis] for n, v in run_ort(network.reference, list(found), inputs).items()}
    assert max(d.max_lsb for d in compare(reference, found).values()) <= 1


def test_layers_left_in_float_are_those_that_onnxruntime_leaves(fashion: Any, tmp_path: Any) -> None:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 4
    onnxruntime.InferenceSession(str(fashion.path), options, providers=["CPUExecutionProvider"])
    nodes = onnx.load(tmp_path / "optimised.onnx").graph.node
    expected = [node.name for node in nodes if node.op_type in ("Conv", "FusedConv")]
    assert expected
    report = check(fashion.network, fashion.array, samples_of(fashion, 4), cycle_images=0)
    assert report.to_json()["original_optimised_float_layers"] == expected
    assert any(f"{len(expected)} of 8 MAC layers in float" in warning for warning in report.warnings)


def test_a_difference_is_named_where_it_begins() -> None:
    """a -> b -> c and a -> d: in sample 0 b goes wrong and c after it, in sample 1 d alone."""
    tensors = tuple(
        DeployedTensor(
            name=name, operator="QLinearConv", fused=(), output=name, channels_last=False, sources=sources
        )
        for name, sources in (("a", ()), ("b", ("a",)), ("c", ("b",)), ("d", ("a",)))
    )
    deployment = Deployment(model=onnx.ModelProto(), tensors=tensors, float_macs=(), session=None)
    ours = {name: np.zeros((2, 3), np.int8) for name in "abcd"}
    theirs = {name: values.copy() for name, values in ours.items()}
    theirs["b"][0, 1] = 1
    theirs["c"][0] = -2
    theirs["d"][1, :2] = 3
    assert origins(deployment, ours, theirs) == {"b": Difference(1, 1), "d": Difference(2, 3)}


def test_an_operator_that_differs_is_explained_by_its_nodes(fashion: Any) -> None:
    """A changed bias in the emulator's own network makes one layer differ from the file: that one is named."""
    network = with_bias(fashion.network, 40_000)
    report = check(network, fashion.array, samples_of(fashion, 3), cycle_images=0)
    assert not report.ok
    [first] = [
        place for place in report.to_json()["original_optimised_differs_first"] if place["max_lsb"] > 1
    ]
    assert first["tensor"] == layers.target(network.graph, 0).name
    assert "Conv conv1" in first["fused"]


def test_the_golden_run_is_what_headroom_looks_at(digits: Any) -> None:
    """Exact sums over the samples span what the emulator's accumulators hold."""
    report = check(digits.network, digits.array, samples_of(digits, 5), cycle_images=0)
    golden = Golden(digits.network.graph)
    runs = [golden.run(image) for image in digits.inputs[:5]]
    for index, layer in enumerate(report.layers):
        held = np.stack([golden.accumulator(run, index) for run in runs])
        assert (layer["accumulator_min"], layer["accumulator_max"]) == (
            min(held.min(), 0),
            max(held.max(), 0),
        )


# ---- every format


@pytest.mark.parametrize(
    "path", [*MODELS.glob("*_q*.onnx"), *MODELS.glob("*dynamic*.onnx")], ids=lambda p: p.stem
)
def test_a_model_of_any_format_passes(path: Path) -> None:
    """Every tensor equal to ONNX Runtime's, engines equal, each operator of the file within 1 LSB."""
    network = load(path)
    wide = max(layer.act_bits for layer in network.graph.layers) > 8
    array = replace(GEMMINI, act_bits=16, psum_bits=32) if wide else GEMMINI
    report = check(network, array, random_samples(network.graph, 2, 0))
    assert report.ok, (report.mismatches, report.engine_mismatches, report.far_operators)
    assert report.tensors > 0 and all(layer["cycles"] > 0 for layer in report.layers)
