"""Finite differences against ONNX Runtime and against the rest of the network run again; Jacobians against them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from oracle import cut_at, saved, session_of

from emulator.campaign.inputs import random_samples
from emulator.errors import BadConfig
from emulator.graph.golden import Golden, Inference
from emulator.graph.load import Network, load
from emulator.graph.program import Col, Rows
from emulator.graph.qgraph import Sample
from emulator.sensitivity import finite_difference
from emulator.sensitivity.finite_difference import FiniteDifferenceSource, finite_differences
from emulator.sensitivity.gradients import GradientSource
from emulator.sensitivity.jacobian import rivals_of

Ints = npt.NDArray[np.int64]
IMAGES = (0, 2, 5)
FOLDER = Path(__file__).parents[1] / "data/models"
# Between them: every kind of row; concatenations; host segments and wide layers behind rows, control flow among them.
FILES = (
    "audio_qop_u8s8", "branches_qdq_s8s8", "branches_qop_u8s8", "video_qdq_s8s8", "if_qdq_s8s8",
    "torch_transformer_qop_u8u8", "torch_mobilenet_qop_u8s8", "two_inputs_qdq_u8s8", "uint8_io_qop_u8u8",
)  # fmt: skip


class Subject(NamedTuple):
    """A network around one sample."""

    network: Network
    golden: Golden
    sample: Sample
    image: Inference


def subject(network: Network, sample: Sample) -> Subject:
    golden = Golden(network.graph)
    return Subject(network, golden, sample, golden.run(sample))


@pytest.fixture(params=["digits", "fashion", *FILES])
def any_subject(request: pytest.FixtureRequest) -> Subject:
    if request.param in FILES:
        network = load(FOLDER / f"{request.param}.onnx")
        return subject(network, random_samples(network.graph, 1, seed=11).inputs[0])
    bundled = request.getfixturevalue(request.param)
    return subject(bundled.network, bundled.inputs[3])


def last_writers(golden: Golden) -> dict[int, int]:
    """Every tensor that rows write: the last of them."""
    return {tensor: row for row, tensor in enumerate(golden.program.ops[:, Col.TARGET].tolist())}


def probes(size: int, count: int, seed: int) -> tuple[Ints, Ints]:
    """Random elements and random changes, none and saturating ones included."""
    rng = np.random.default_rng(seed)
    change = rng.integers(-300, 301, count)
    change[:2] = 0, 1
    return rng.integers(0, size, count), change


def overwritten(s: Subject, tensor: int, element: int, by: int) -> Inference:
    """One value moved as far as int8 goes, and nothing behind it computed again."""
    image = s.image.copy()
    values = s.golden.tensor(image, tensor)
    values[element] = min(max(int(values[element]) + by, -128), 127)
    return image


def dense(s: Subject, tensor: int, element: int, by: int) -> npt.NDArray[Any]:
    """The answer when everything behind the tensor runs again."""
    image, row = overwritten(s, tensor, element, by), last_writers(s.golden)[tensor]
    steps = s.golden.steps
    (at,) = [i for i, step in enumerate(steps) if isinstance(step, Rows) and step.first <= row < step.last]
    assert isinstance(steps[at], Rows)
    for step in (Rows(row + 1, steps[at].last), *steps[at + 1 :]):
        s.golden.run_step(image, step)
    return s.golden.logits(image)


# ---- probes


def test_a_probe_of_any_tensor_is_the_rest_of_the_network_run_again(any_subject: Subject) -> None:
    s = any_subject
    right = s.golden.logits(s.image).astype(int)
    moved = 0
    for tensor in last_writers(s.golden):
        elements, change = probes(s.network.graph.tensors[tensor].size, 8, seed=tensor)
        found = finite_differences(s.golden, s.image, tensor, elements, change)
        assert found.dtype == np.int16
        assert not found[0].any()
        for i, (element, by) in enumerate(zip(elements.tolist(), change.tolist(), strict=True)):
            want = dense(s, tensor, element, by).astype(int) - right
            np.testing.assert_array_equal(found[i], want, err_msg=f"{tensor} {element} {by}")
            moved += bool(want.any())
    assert moved > 3


def test_a_probe_is_what_onnx_runtime_finds_for_the_changed_tensor(any_subject: Subject) -> None:
    s, graph = any_subject, any_subject.network.graph
    assert graph.answer is not None
    # A node is cut off whole, so tensors that come with others are left to the test above.
    single = {node.output[0] for node in s.network.reference.graph.node if len(node.output) == 1}
    single -= {graph.answer.name}
    moved = 0
    for tensor in last_writers(s.golden):
        name = graph.tensors[tensor].name
        if name not in single:
            continue
        session = session_of(cut_at(s.network, name), [graph.answer.name])
        known = {info.name for info in session.get_inputs()}
        elements, change = probes(graph.tensors[tensor].size, 6, seed=100 + tensor)
        found = finite_differences(s.golden, s.image, tensor, elements, change)
        for i, (element, by) in enumerate(zip(elements.tolist(), change.tolist(), strict=True)):
            value = s.golden.value(overwritten(s, tensor, element, by), name)
            feeds = {n: a for n, a in (graph.feeds(s.sample) | {name: value}).items() if n in known}
            (logits,) = session.run(None, feeds)
            want = graph.answer.from_onnx(logits).astype(int) - s.golden.logits(s.image)
            np.testing.assert_array_equal(found[i], want, err_msg=f"{name} {element} {by}")
            moved += bool(want.any())
    assert moved > 3


def test_one_lsb_of_a_logit_is_one_lsb_of_the_answer(bundled: Any) -> None:
    graph = bundled.network.graph
    image = bundled.inference(0)
    inside = bundled.golden.logits(image)
    assert (np.abs(inside.astype(int)) < 120).all()
    steps = np.full(graph.classes, 3)
    found = finite_differences(bundled.golden, image, graph.output, np.arange(graph.classes), steps)
    np.testing.assert_array_equal(found, 3 * np.eye(graph.classes, dtype=int))


def with_output(digits: Any, op: str, folder: Path, **attributes: Any) -> Subject:
    """The digits network, its answer `op` of the logits, in float."""
    model = onnx.load(digits.path)
    model.graph.node.append(onnx.helper.make_node(op, ["logits"], ["answer"], **attributes))
    del model.graph.output[:]
    model.graph.output.append(onnx.helper.make_tensor_value_info("answer", onnx.TensorProto.FLOAT, ["N", 10]))
    return subject(load(saved(model, folder)), digits.inputs[0])


def test_a_float_answer_changes_in_steps_of_a_255th_of_its_range(digits: Any, tmp_path: Path) -> None:
    s = with_output(digits, "Softmax", tmp_path, axis=1)
    right = s.golden.logits(s.image).astype(float)
    for tensor in last_writers(s.golden):
        elements, change = probes(s.network.graph.tensors[tensor].size, 10, seed=tensor)
        found = finite_differences(s.golden, s.image, tensor, elements, change)
        assert found.dtype == np.float32
        for i, (element, by) in enumerate(zip(elements.tolist(), change.tolist(), strict=True)):
            want = (dense(s, tensor, element, by) - right) / (right.max() - right.min()) * 255
            np.testing.assert_allclose(found[i], want, rtol=1e-4, atol=1e-4)


def test_a_float_answer_that_is_no_number_changes_by_finite_steps(digits: Any, tmp_path: Path) -> None:
    """The logarithm of a logit below zero is none: it counts as the lowest of the golden values."""
    s = with_output(digits, "Log", tmp_path)
    right = s.golden.logits(s.image).astype(float)
    lowest = right[np.isfinite(right)].min()
    (logits,) = [t for t in last_writers(s.golden) if s.network.graph.tensors[t].name.startswith("logits")]
    elements = np.repeat(np.arange(10), 2)
    found = finite_differences(s.golden, s.image, logits, elements, np.tile([-255, 255], 10))
    crossed = 0
    for i, element in enumerate(elements.tolist()):
        after = dense(s, logits, element, (-255, 255)[i % 2]).astype(float)
        bounded = [x if np.isfinite(x) else lowest for x in after]
        want = np.array(bounded) - [x if np.isfinite(x) else lowest for x in right]
        np.testing.assert_allclose(found[i], want, rtol=1e-5, atol=1e-6)
        crossed += bool((np.isfinite(after) != np.isfinite(right)).any())
    assert crossed >= 5


def test_a_tensor_that_no_row_writes_is_refused_by_name() -> None:
    network = load(FOLDER / "torch_transformer_qop_u8u8.onnx")
    s = subject(network, random_samples(network.graph, 1, seed=11).inputs[0])
    strange = set(range(len(network.graph.tensors))) - last_writers(s.golden).keys()
    assert len(strange) > 1
    for tensor in strange:
        name = network.graph.tensors[tensor].name
        with pytest.raises(BadConfig, match=rf"{name}.*no compiled row writes.*allowed: .*Take one"):
            finite_differences(s.golden, s.image, tensor, np.zeros(1, np.int64), np.ones(1, np.int64))
        with pytest.raises(BadConfig, match=name):
            FiniteDifferenceSource(s.golden, [tensor])


@pytest.mark.parametrize("element", [-1, 10])
def test_an_element_outside_the_tensor_is_refused(digits: Any, element: int) -> None:
    image, steps = digits.inference(0), np.ones(2, np.int64)
    with pytest.raises(BadConfig, match=r"elements .*'logits.*'; allowed: 0 to 9\."):
        finite_differences(digits.golden, image, digits.network.graph.output, np.array([3, element]), steps)


def test_probing_leaves_the_golden_run_untouched(any_subject: Subject) -> None:
    s = any_subject
    before = s.image.copy()
    source = FiniteDifferenceSource(s.golden, [list(last_writers(s.golden))[-1]])
    first = source.jacobians(s.sample, s.image, every_class(s.network))
    assert np.array_equal(s.image.values, before.values)
    assert np.array_equal(s.image.accumulators, before.accumulators)
    for tensor, jacobian in source.jacobians(s.sample, s.image, every_class(s.network)).items():
        np.testing.assert_array_equal(jacobian, first[tensor])
    nothing = np.zeros(0, np.int64)
    empty = finite_differences(s.golden, s.image, source.tensors[0], nothing, nothing)
    assert empty.shape == (0, s.network.graph.classes)


# ---- Jacobians


def every_class(network: Network) -> npt.NDArray[np.intp]:
    return np.arange(network.graph.classes)


def jacobians_of(
    source: GradientSource | FiniteDifferenceSource, bundled: Any, image: int
) -> dict[int, npt.NDArray[np.float32]]:
    return source.jacobians(bundled.inputs[image], bundled.inference(image), every_class(bundled.network))


@pytest.mark.parametrize("step", [1, 60, 255])
def test_the_jacobian_is_the_slope_between_two_dense_runs(digits: Any, step: int) -> None:
    """Inside the range over two steps; at its ends, and near them, over what is left."""
    s = subject(digits.network, digits.inputs[1])
    tensor = digits.network.graph.layers[0].target
    values = s.golden.tensor(s.image, tensor).astype(int)
    found = jacobians_of(FiniteDifferenceSource(s.golden, [tensor], step=step), digits, 1)[tensor]
    assert found.shape == (len(values), 10)
    assert found.dtype == np.float32
    ends = np.flatnonzero(values == -128)
    inside = np.flatnonzero((values > -120) & (values < 120))
    assert len(ends) > 10 < len(inside)
    for element in [*ends[:10].tolist(), *inside[:30].tolist()]:
        up, down = (dense(s, tensor, element, by).astype(int) for by in (step, -step))
        length = min(int(values[element]) + step, 127) - max(int(values[element]) - step, -128)
        np.testing.assert_allclose(found[element], (up - down) / length, rtol=1e-6)


@pytest.mark.parametrize("kind", ["gradient", "finite-difference"])
def test_jacobians_of_a_float_answer_are_in_255ths_of_its_range(
    digits: Any, tmp_path: Path, kind: str
) -> None:
    s = with_output(digits, "Neg", tmp_path)
    (logits,) = [t for t in last_writers(s.golden) if s.network.graph.tensors[t].name.startswith("logits")]
    real = s.golden.logits(s.image).astype(float)
    scale = s.network.graph.tensors[logits].scale
    source = (
        GradientSource(s.network, [logits])
        if kind == "gradient"
        else FiniteDifferenceSource(s.golden, [logits])
    )
    found = source.jacobians(s.sample, s.image, every_class(s.network))[logits]
    np.testing.assert_allclose(found, -np.eye(10) * scale / (real.max() - real.min()) * 255, rtol=1e-3)


@pytest.mark.parametrize("kind", ["gradient", "finite-difference"])
def test_jacobians_of_some_classes_are_those_of_all(digits: Any, kind: str) -> None:
    s = subject(digits.network, digits.inputs[1])
    tensors = [layer.target for layer in digits.network.graph.layers[-2:]]
    gradients = kind == "gradient"
    source = GradientSource(s.network, tensors) if gradients else FiniteDifferenceSource(s.golden, tensors)
    every = source.jacobians(s.sample, s.image, every_class(s.network))
    some = source.jacobians(s.sample, s.image, np.array([2, 3, 7]))
    for tensor in tensors:
        np.testing.assert_array_equal(some[tensor], every[tensor][:, [2, 3, 7]])


def test_rivals_are_the_largest_logits() -> None:
    rng = np.random.default_rng(5)
    for classes in (2, 16, 17, 1000):
        logits = rng.integers(-20, 20, classes).astype(np.int8)
        ranked = sorted(range(classes), key=lambda each: (-int(logits[each]), each))
        assert rivals_of(logits).tolist() == sorted(ranked[:16])
    assert 7 in rivals_of(np.array([np.nan] * 7 + [1.0] + [-np.inf] * 20))


def test_chunks_do_not_change_the_jacobian(digits: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = [layer.target for layer in digits.network.graph.layers]
    source = FiniteDifferenceSource(digits.golden, tensors)
    whole = jacobians_of(source, digits, 2)
    for room in (1, 2 * 10 * 32 * 7):
        monkeypatch.setattr(finite_difference, "CHUNK_BYTES", room)
        parts = jacobians_of(source, digits, 2)
        assert all(np.array_equal(parts[tensor], whole[tensor]) for tensor in tensors)


@pytest.mark.parametrize("step", [0, -3])
def test_a_step_that_leads_nowhere_is_refused(digits: Any, step: int) -> None:
    with pytest.raises(BadConfig, match=rf"step={step} LSB; allowed: from 1"):
        FiniteDifferenceSource(digits.golden, [digits.network.graph.output], step=step)


def test_the_gradient_at_the_last_layers_input_is_its_weight_matrix_in_lsb(bundled: Any) -> None:
    graph = bundled.network.graph
    fc = graph.layers[-1]
    arrays = {t.name: onnx.numpy_helper.to_array(t) for t in bundled.network.reference.graph.initializer}
    (node,) = [n for n in bundled.network.reference.graph.node if n.op_type == "QGemm"]
    weight = arrays[node.input[3]].astype(float)
    transposed = any(a.name == "transB" and a.i for a in node.attribute)
    x_scale, w_scale, y_scale = (arrays[node.input[i]].astype(float) for i in (1, 4, 7))
    want = (weight.T if transposed else weight) * w_scale * x_scale / y_scale
    source = GradientSource(bundled.network, [fc.source])
    checked = 0
    for index in range(20):
        if np.abs(bundled.golden.logits(bundled.inference(index)).astype(int)).max() > 80:
            continue  # a logit near saturation counts less
        np.testing.assert_allclose(
            jacobians_of(source, bundled, index)[fc.source], want, rtol=1e-3, atol=1e-5
        )
        checked += 1
    assert checked >= 3


@pytest.mark.parametrize(
    ("model", "layer", "step", "least"),
    [
        ("digits", "conv1", 32, 0.75),
        ("digits", "conv2", 127, 0.95),
        ("fashion", "block2_dw", 32, 0.75),
        ("fashion", "block2_pw", 127, 0.9),
        ("fashion", "block2_conv", 127, 0.65),
        ("fashion", "block1_dw", 32, 0.6),
    ],
)
def test_gradients_go_with_finite_differences(
    model: str, layer: str, step: int, least: float, request: pytest.FixtureRequest
) -> None:
    """Steps large enough to be seen through the roundings on the way to the logits."""
    bundled = request.getfixturevalue(model)
    (target,) = [mac.target for mac in bundled.network.graph.layers if mac.name == layer]
    sources = (
        FiniteDifferenceSource(bundled.golden, [target], step=step),
        GradientSource(bundled.network, [target]),
    )
    slope, gradient = (
        np.concatenate([jacobians_of(source, bundled, i)[target] for i in IMAGES]).ravel()
        for source in sources
    )
    assert np.corrcoef(slope, gradient)[0, 1] > least
    clear = (np.abs(slope) * step >= 2) & (np.abs(gradient) * step >= 1)
    assert clear.sum() > 20
    assert (np.sign(slope) == np.sign(gradient))[clear].mean() > 0.9
