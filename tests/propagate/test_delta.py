"""Sparse propagation against running the whole network again, and against ONNX Runtime."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx_models import Sample, convolution_models, pooling_models, quantised_models, run_unoptimised
from oracle import cut_at
from strikes import random_strikes

from emulator.faults.salvo import strike
from emulator.faults.space import FaultSpace
from emulator.faults.strikes import LayerErrors
from emulator.graph.golden import Golden, Inference
from emulator.graph.load import load
from emulator.graph.quantize import quantize
from emulator.propagate.propagator import Effects, Propagator
from emulator.propagate.stage import Stage

Ints = npt.NDArray[np.int64]


def run(propagator: Propagator, image: Inference, layer: Ints, strikes: Any) -> Effects:
    return propagator.run(image, layer, strikes.errors)


def errors_of(strikes: Any, fault: int) -> tuple[Ints, Ints, Ints]:
    part = slice(strikes.ptr[fault], strikes.ptr[fault + 1])
    return strikes.m[part], strikes.n[part], strikes.delta[part]


def check_against_rerun(
    golden: Golden, image: Inference, layer: Ints, strikes: Any, effects: Effects
) -> dict[int, int]:
    """Logits, stage and corrupted elements of every fault, from a full second run; how often each stage."""
    graph = golden.graph
    stages: dict[int, int] = {}
    for fault, struck in enumerate(layer.tolist()):
        m, n, delta = errors_of(strikes, fault)
        again = golden.rerun(image, struck, m, n, delta)
        np.testing.assert_array_equal(effects.logits[fault], golden.logits(again))
        target = graph.layers[struck].target
        changed = golden.tensor(again, target) != golden.tensor(image, target)
        assert effects.corrupted[fault] == changed.sum()
        stage = int(effects.stage[fault])
        answer_differs = not np.array_equal(golden.logits(again), golden.logits(image))
        if answer_differs:
            assert stage == Stage.NONE
        elif changed.any():
            assert stage == Stage.NETWORK
        elif len(m):
            assert stage in (Stage.REQUANT, Stage.CLAMP)
            assert (stage == Stage.CLAMP) == hidden_by_the_clamp(golden, image, struck, m, n, delta)
        else:
            assert stage == Stage.ARRAY
        stages[stage] = stages.get(stage, 0) + 1
    return stages


def hidden_by_the_clamp(golden: Golden, image: Inference, layer: int, m: Ints, n: Ints, delta: Ints) -> bool:
    """Without saturation the struck values would differ: the requantiser's product in float32, unclipped."""
    rq = golden.graph.layers[layer].requantisation
    acc = golden.accumulator(image, layer)[m, n].astype(np.int64)
    wrong = (acc + delta).astype(np.int32)
    rounded = [np.rint(x.astype(np.float32) * rq.scale[n]) for x in (acc, wrong)]
    return bool((rounded[0] != rounded[1]).any())


def test_sparse_propagation_is_a_full_recomputation_of_two_thousand_faults(bundled: Any) -> None:
    space = FaultSpace(bundled.network, bundled.array)
    rng = np.random.default_rng(21)
    propagator = Propagator(bundled.golden)
    found: dict[int, int] = {}
    images = 20
    for index in rng.choice(len(bundled.inputs), images, replace=False).tolist():
        image = bundled.inference(index)
        faults = evenly_over_layers(bundled, space, rng, 2000 // images)
        strikes = strike(bundled.golden, image, bundled.array, faults, by_cycles=False)
        effects = run(propagator, image, faults.layer, strikes)
        for stage, times in check_against_rerun(
            bundled.golden, image, faults.layer, strikes, effects
        ).items():
            found[stage] = found.get(stage, 0) + times
    assert sum(found.values()) == 2000
    assert {Stage.REQUANT, Stage.CLAMP, Stage.NETWORK, Stage.NONE} <= found.keys()


def evenly_over_layers(bundled: Any, space: FaultSpace, rng: np.random.Generator, count: int) -> Any:
    """Live faults, every stratum alike: plain draws would nearly all be accumulators of one layer."""
    alive = [i for i, stratum in enumerate(space.strata) if stratum.live]
    ends = np.cumsum([stratum.live for stratum in space.strata])
    chosen = rng.choice(alive, count)
    offsets = [int(rng.integers(0, space.strata[i].live)) for i in chosen.tolist()]
    return space.live_faults(ends[chosen] - np.array([space.strata[i].live for i in chosen]) + offsets)


def test_a_run_leaves_no_trace(bundled: Any) -> None:
    """The same faults again, and after other faults and another image: the same effects."""
    space = FaultSpace(bundled.network, bundled.array)
    rng = np.random.default_rng(4)
    propagator = Propagator(bundled.golden)
    images = [bundled.inference(i) for i in (0, 1)]
    faults = [evenly_over_layers(bundled, space, rng, 150) for _ in images]
    strikes = [
        strike(bundled.golden, image, bundled.array, batch)
        for image, batch in zip(images, faults, strict=True)
    ]
    first = run(propagator, images[0], faults[0].layer, strikes[0])
    scratch = propagator.scratch
    assert np.array_equal(scratch.current, images[0].values)
    assert not scratch.counts.any()
    assert not scratch.listed.any()
    assert not scratch.spread.mark.any() and not scratch.queues.mark.any()
    run(propagator, images[1], faults[1].layer, strikes[1])
    again = run(propagator, images[0], faults[0].layer, strikes[0])
    fresh = run(Propagator(bundled.golden), images[0], faults[0].layer, strikes[0])
    for other in (again, fresh):
        assert np.array_equal(first.logits, other.logits)
        assert np.array_equal(first.stage, other.stage)
        assert np.array_equal(first.corrupted, other.corrupted)


def test_no_fault_gives_the_golden_answer(bundled: Any) -> None:
    image = bundled.inference(7)
    none = np.zeros(0, np.int32)
    errors = LayerErrors(np.zeros(3, np.int64), none, none, none, *[np.zeros(2, np.bool_)] * 2)
    effects = Propagator(bundled.golden).run(image, np.array([0, 2]), errors)
    assert (effects.stage == Stage.ARRAY).all()
    assert (effects.logits == bundled.golden.logits(image)).all()


def test_a_corrupted_layer_has_the_logits_onnx_runtime_computes_from_it(bundled: Any) -> None:
    """The struck layer's wrong int8 output, fed to ONNX Runtime in place of the layer."""
    graph, golden = bundled.network.graph, bundled.golden
    space = FaultSpace(bundled.network, bundled.array)
    rng = np.random.default_rng(8)
    image = bundled.inference(12)
    faults = evenly_over_layers(bundled, space, rng, 400)
    strikes = strike(golden, image, bundled.array, faults, by_cycles=False)
    effects = run(Propagator(golden), image, faults.layer, strikes)
    survivors = np.flatnonzero(effects.corrupted > 0)
    checked = 0
    for layer in range(len(graph.layers)):
        chosen = survivors[faults.layer[survivors] == layer][: 48 // len(graph.layers)]
        if not len(chosen):
            continue
        target = graph.tensors[graph.layers[layer].target]
        part = cut_at(bundled.network, target.name)
        for fault in chosen.tolist():
            again = golden.rerun(image, layer, *errors_of(strikes, fault))
            wrong = golden.value(again, target.name)
            name = graph.tensors[graph.output].name
            feeds = graph.feeds(bundled.inputs[12]) | {target.name: wrong}
            want = wrong if name == target.name else run_unoptimised(part, [name], feeds)[name]
            np.testing.assert_array_equal(effects.logits[fault], want.reshape(-1))
            checked += 1
    assert checked >= 30


# ---- random networks: residual paths, tensors with several readers, every operator


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("propagate") / "model.onnx"


def check_random_network(sample: Sample, file: Path, seed: int, faults: int) -> None:
    onnx.save(sample.model, file)
    golden = Golden(load(file).graph)
    image = golden.run(sample.image)
    layer, strikes = random_strikes(golden, np.random.default_rng(seed), faults)
    effects = run(Propagator(golden), image, layer, strikes)
    check_against_rerun(golden, image, layer, strikes, effects)


@given(sample=quantised_models(most=6), seed=st.integers(0, 1 << 30))
@settings(max_examples=150)
def test_sparse_propagation_is_a_full_recomputation_on_random_networks(
    file: Path, sample: Sample, seed: int
) -> None:
    check_random_network(sample, file, seed, faults=25)


@given(sample=convolution_models() | pooling_models(), seed=st.integers(0, 1 << 30))
@settings(max_examples=150)
def test_sparse_propagation_finds_every_window_that_sees_a_change(
    file: Path, sample: Sample, seed: int
) -> None:
    check_random_network(sample, file, seed, faults=25)


@pytest.mark.slow
@given(sample=quantised_models(most=8), seed=st.integers(0, 1 << 30))
@settings(max_examples=1500)
def test_sparse_propagation_is_a_full_recomputation_on_many_random_networks(
    file: Path, sample: Sample, seed: int
) -> None:
    check_random_network(sample, file, seed, faults=25)


@pytest.mark.parametrize("width", [4, 8, 24, 40])
def test_two_branches_that_share_units_of_a_concatenation(width: int, tmp_path: Path) -> None:
    """Both change the same runs of channels, one after the other."""
    rng = np.random.default_rng(width)

    def conv(x: str, y: str, cin: int, cout: int, kernel: int) -> list[Any]:
        weight = (rng.standard_normal((cout, cin, kernel, kernel)) / np.sqrt(cin * kernel**2)).astype(
            np.float32
        )
        constants.append(onnx.numpy_helper.from_array(weight, f"{y}_w"))
        return [onnx.helper.make_node("Conv", [x, f"{y}_w"], [y], pads=[kernel // 2] * 4)]

    constants: list[Any] = []
    nodes = [
        *conv("input", "stem", 3, 8, 3),
        *conv("stem", "left", 8, width, 1),
        *conv("stem", "right", 8, width, 3),
        onnx.helper.make_node("Concat", ["left", "right"], ["both"], axis=1),
        *conv("both", "head", 2 * width, 5, 3),
        onnx.helper.make_node("GlobalAveragePool", ["head"], ["pooled"]),
        onnx.helper.make_node("Flatten", ["pooled"], ["logits"]),
    ]
    value = partial(onnx.helper.make_tensor_value_info, elem_type=onnx.TensorProto.FLOAT)
    graph = onnx.helper.make_graph(
        nodes, "net", [value("input", shape=[1, 3, 9, 9])], [value("logits", shape=[1, 5])], constants
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    images = rng.standard_normal((3, 3, 9, 9)).astype(np.float32)
    onnx.save(quantize(model, images), tmp_path / "model.onnx")
    golden = Golden(load(tmp_path / "model.onnx").graph)
    image = golden.run(images[0])
    layer, strikes = random_strikes(golden, rng, 150)
    found = check_against_rerun(golden, image, layer, strikes, run(Propagator(golden), image, layer, strikes))
    assert found[Stage.NONE] > 50
