"""Faults in networks of several steps: host segments before, between and after, computed operands, raw and 16-bit
accumulators, answers in float. Every effect is that of ONNX Runtime given the corrupted value, bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from format_models import FORMATS
from oracle import cut_at, produced, saved, session_of
from strikes import random_strikes

from emulator.campaign.inputs import random_samples
from emulator.graph.golden import Golden, Inference
from emulator.graph.load import Network, load
from emulator.graph.qgraph import Sample
from emulator.propagate.propagator import Effects, Propagator
from emulator.propagate.stage import Stage

FOLDER = Path(__file__).parents[1] / "data/models"
# Between them: every kind of step before and after a struck layer.
FILES = (
    "torch_transformer_qop_u8u8", "torch_transformer_qdq_s8s8", "torch_transformer_dynamic", "a16w8_qdq",
    "lstm_dynamic", "lstm_qdq_s8s8", "branches_qdq_s8s8", "branches_qop_u8s8", "if_qdq_s8s8", "loop_qdq_s8s8",
    "two_inputs_qdq_u8s8", "uint8_io_qop_u8u8", "sklearn_mlp_dynamic", "sklearn_mlp_qdq_s8s8", "video_qdq_s8s8",
    "torch_mobilenet_dynamic_u8", "torch_mobilenet_qop_u8u8", "autoencoder_grouped_qdq_s8s8", "audio_qop_u8s8",
)  # fmt: skip


class AfterStrike:
    """ONNX Runtime from the output of one MAC layer on."""

    def __init__(self, network: Network, layer: int) -> None:
        target = network.graph.layers[layer].target
        self.target = target if isinstance(target, str) else network.graph.tensors[target].name
        # A tensor the file does not name: the same values in another order.
        self.name = self.target.removesuffix("/produced")
        assert self.name in produced(network.reference)
        output = network.graph.output
        self.graph = network.graph
        self.answer = output if isinstance(output, str) else network.graph.tensors[output].name
        self.session = None
        if self.answer != self.name:
            self.session = session_of(cut_at(network, self.name), [self.answer])

    def logits(self, golden: Golden, struck: Inference, sample: Sample) -> npt.NDArray[Any]:
        """The answer given the value that `struck` has there, as `Golden.logits` gives it."""
        value = golden.value(struck, self.target)
        if self.session is not None:
            known = {info.name for info in self.session.get_inputs()}
            feeds = {n: a for n, a in (self.graph.feeds(sample) | {self.name: value}).items() if n in known}
            (value,) = self.session.run([self.answer], feeds)
        answer = self.graph.answer
        return value.reshape(-1) if answer is None else answer.from_onnx(value)


def same_bits(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> bool:
    return a.dtype == b.dtype and a.tobytes() == b.tobytes()


def check_effects(network: Network, sample: Sample, seed: int, faults: int) -> dict[int, int]:
    """Every fault against ONNX Runtime and against the whole inference again; how often each stage."""
    golden = Golden(network.graph)
    image = golden.run(sample)
    right = golden.logits(image)
    layer, strikes = random_strikes(golden, np.random.default_rng(seed), faults)
    effects = Propagator(golden).run(image, layer, strikes.errors)
    assert effects.logits.dtype == right.dtype
    oracles: dict[int, AfterStrike] = {}
    stages: dict[int, int] = {}
    for fault, struck in enumerate(layer.tolist()):
        oracle = oracles.setdefault(struck, AfterStrike(network, struck))
        part = slice(strikes.ptr[fault], strikes.ptr[fault + 1])
        again = golden.rerun(image, struck, strikes.m[part], strikes.n[part], strikes.delta[part])
        want = oracle.logits(golden, again, sample)
        assert same_bits(effects.logits[fault], want), (struck, fault)
        assert same_bits(golden.logits(again), want), (struck, fault)
        changed = golden.value(again, oracle.target) != golden.value(image, oracle.target)
        assert effects.corrupted[fault] == changed.sum()
        check_stage(effects, fault, not same_bits(want, right), bool(changed.any()))
        stages[int(effects.stage[fault])] = stages.get(int(effects.stage[fault]), 0) + 1
    return stages


def check_stage(effects: Effects, fault: int, answer_differs: bool, output_differs: bool) -> None:
    stage = effects.stage[fault]
    if answer_differs:
        assert stage == Stage.NONE
    elif output_differs:
        assert stage == Stage.NETWORK
    else:
        assert stage in (Stage.REQUANT, Stage.CLAMP)


@pytest.mark.parametrize("name", FILES)
def test_a_fault_in_a_model_file_has_the_answer_onnx_runtime_computes_from_it(name: str) -> None:
    network = load(FOLDER / f"{name}.onnx")
    for seed, sample in enumerate(random_samples(network.graph, 2, seed=11).inputs):
        stages = check_effects(network, sample, seed, faults=60)
        assert stages.get(int(Stage.NONE), 0) > 0


@pytest.mark.parametrize("name", FORMATS)
def test_a_fault_in_any_product_has_the_answer_onnx_runtime_computes_from_it(
    name: str, tmp_path: Path
) -> None:
    made = FORMATS[name]()
    network = load(saved(made.model, tmp_path))
    stages = check_effects(network, made.sample, 5, faults=80)
    assert stages.get(int(Stage.NONE), 0) > 0


def test_faults_are_masked_in_the_network_behind_host_segments() -> None:
    """A wrong tensor that a segment or what follows makes right again is NETWORK, not an error."""
    found: set[int] = set()
    for name in (
        "branches_qdq_s8s8",
        "torch_transformer_qop_u8u8",
        "torch_transformer_dynamic",
        "video_qdq_s8s8",
    ):
        network = load(FOLDER / f"{name}.onnx")
        (sample,) = random_samples(network.graph, 1, seed=12).inputs
        found |= check_effects(network, sample, 3, faults=120).keys()
    assert {Stage.REQUANT, Stage.CLAMP, Stage.NETWORK, Stage.NONE} <= found


@pytest.mark.parametrize("name", ["torch_transformer_qdq_s8s8", "torch_transformer_dynamic", "a16w8_qdq"])
def test_a_run_through_segments_leaves_no_trace(name: str) -> None:
    golden = Golden(load(FOLDER / f"{name}.onnx").graph)
    image = golden.run(random_samples(golden.graph, 1, seed=13).inputs[0])
    before = image.copy()
    layer, strikes = random_strikes(golden, np.random.default_rng(2), 60)
    propagator = Propagator(golden)
    first = propagator.run(image, layer, strikes.errors)
    assert np.array_equal(propagator.scratch.current, image.values)
    assert not propagator.scratch.counts.any()
    again = propagator.run(image, layer, strikes.errors)
    fresh = Propagator(golden).run(image, layer, strikes.errors)
    for other in (again, fresh):
        assert same_bits(first.logits, other.logits)
        assert np.array_equal(first.stage, other.stage) and np.array_equal(first.corrupted, other.corrupted)
    assert np.array_equal(before.values, image.values)
    assert np.array_equal(before.accumulators, image.accumulators)
    assert all(same_bits(before.host[key], image.host[key]) for key in before.host)


def element(network: Network, layer: int, value: npt.NDArray[Any], m: int, n: int) -> npt.NDArray[Any]:
    """Row m, column n of a layer's requantised matrix, as a view of its value in ONNX order."""
    mac = network.graph.layers[layer]
    if mac.op == "Conv":
        return value[0].reshape(mac.columns, -1)[n : n + 1, m]
    stack = value.reshape(mac.shape.groups, mac.shape.m, mac.shape.n)
    return stack[n // mac.shape.n, m, n % mac.shape.n : n % mac.shape.n + 1]


@pytest.mark.parametrize("name", [n for n in FORMATS if "Integer" not in n and "16-bit" not in n])
def test_a_wrong_requantised_word_has_the_answer_onnx_runtime_computes_from_it(
    name: str, tmp_path: Path
) -> None:
    """Errors behind the requantiser wrap in 8 bits and strike the element they name."""
    made = FORMATS[name]()
    network = load(saved(made.model, tmp_path))
    golden = Golden(network.graph)
    image = golden.run(made.sample)
    layer, strikes = random_strikes(golden, np.random.default_rng(9), 60)
    delta = np.sign(strikes.delta) << (np.abs(strikes.delta) % 7)
    at_output = np.ones(len(layer), np.bool_)
    errors = strikes.errors._replace(delta=delta, at_output=at_output)
    effects = Propagator(golden).run(image, layer, errors)
    for fault, struck in enumerate(layer.tolist()):
        oracle = AfterStrike(network, struck)
        value = golden.value(image, oracle.target).copy()
        for i in range(errors.ptr[fault], errors.ptr[fault + 1]):
            word = element(network, struck, value, int(errors.m[i]), int(errors.n[i]))
            word += np.array(delta[i]).astype(np.int8).view(value.dtype)
        wrong = image.copy()
        golden.put(wrong, oracle.target, value)
        assert same_bits(effects.logits[fault], oracle.logits(golden, wrong, made.sample)), fault
        assert effects.corrupted[fault] == (value != golden.value(image, oracle.target)).sum()


def with_nan_in_the_answer() -> onnx.ModelProto:
    """sqrt of the logits: some are NaN without any fault."""
    model = onnx.load(FOLDER / "torch_mobilenet_qop_u8u8.onnx")
    answer = model.graph.output[0].name
    model.graph.node.append(onnx.helper.make_node("Sqrt", [answer], ["roots"], name="roots"))
    del model.graph.output[:]
    model.graph.output.append(onnx.helper.make_tensor_value_info("roots", 1, [None, None]))
    return model


def test_a_nan_of_the_golden_answer_is_no_error(tmp_path: Path) -> None:
    network = load(saved(with_nan_in_the_answer(), tmp_path))
    (sample,) = random_samples(network.graph, 1, seed=1).inputs
    golden = Golden(network.graph)
    assert np.isnan(golden.logits(golden.run(sample))).any()
    stages = check_effects(network, sample, 4, faults=120)
    assert stages[int(Stage.NETWORK)] > 0 and stages[int(Stage.NONE)] > 0
