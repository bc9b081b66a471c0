"""Scores and their horizons: what is exact must be, and what scores zero must be harmless."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx_models import Builder, Sample, Tensor, quantised_models

from emulator.faults.space import FaultSpace
from emulator.faults.strike import strike
from emulator.graph.golden import Golden
from emulator.graph.load import load
from emulator.graph.qgraph import MacLayer, PairTableOp, QuantGraph
from emulator.propagate.outcome import judge
from emulator.propagate.propagator import Propagator
from emulator.sampling.workbench import Workbench
from emulator.sensitivity.score import horizons

ALL_LAYERS = 99


def bench_of(bundled: Any, images: int = 30) -> Workbench:
    space = FaultSpace(bundled.network, bundled.array)
    return Workbench(bundled.network, bundled.array, space, bundled.inputs[:images])


# ---- horizons


def reads(op: Any) -> list[int]:
    return [op.left, op.right] if isinstance(op, PairTableOp) else [op.source]


def stale_after(graph: QuantGraph, struck: int, last: int) -> set[int]:
    """Tensors computed up to operator `last` that may differ from golden and that something later reads, or
    that are the answer."""
    changed = {graph.ops[struck].target}
    for op in graph.ops[struck + 1 : last + 1]:
        if changed & set(reads(op)):
            changed.add(op.target)
    later = {tensor for op in graph.ops[last + 1 :] for tensor in reads(op)} | {graph.output}
    return changed & later


def mac_layers_crossed(graph: QuantGraph, struck: int, last: int) -> int:
    """MAC layers between that read something changed."""
    changed = {graph.ops[struck].target}
    crossed = 0
    for op in graph.ops[struck + 1 : last + 1]:
        if changed & set(reads(op)):
            changed.add(op.target)
            crossed += isinstance(op, MacLayer)
    return crossed


def check_horizons(graph: QuantGraph, lookahead: int) -> None:
    """One tensor carries every change across the horizon, and no later operator would do within the budget."""
    found = horizons(Golden(graph).program, lookahead)
    layers = [index for index, op in enumerate(graph.ops) if isinstance(op, MacLayer)]
    assert len(found) == len(layers)
    for struck, horizon in zip(layers, found, strict=True):
        allowed = [
            last
            for last in range(struck, len(graph.ops))
            if mac_layers_crossed(graph, struck, last) <= lookahead
            and len(stale_after(graph, struck, last)) == 1
        ]
        assert horizon.op in allowed
        assert stale_after(graph, struck, horizon.op) == {horizon.tensor}
        assert horizon.tensor == stale_after(graph, struck, allowed[-1]).pop()


@pytest.mark.parametrize("lookahead", [0, 1, 2, ALL_LAYERS])
def test_the_horizon_of_a_bundled_model_cuts_every_changed_path(bundled: Any, lookahead: int) -> None:
    check_horizons(bundled.network.graph, lookahead)


@given(sample=quantised_models(most=7), lookahead=st.integers(0, 3))
@settings(max_examples=100)
def test_the_horizon_of_a_random_network_cuts_every_changed_path(
    tmp_path_factory: pytest.TempPathFactory, sample: Sample, lookahead: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "horizon.onnx"
    onnx.save(sample.model, path)
    check_horizons(load(path).graph, lookahead)


@pytest.mark.parametrize("lookahead", [0, 1, 2, 3])
def test_a_horizon_never_lies_between_two_parallel_layers(tmp_path: Path, lookahead: int) -> None:
    """stem, then left(stem) + right(stem), then head: with one layer ahead the change is still in two tensors."""
    b = Builder(np.random.default_rng(1))

    def layer(x: Tensor) -> Tensor:
        return b.mac(
            "Gemm", x, (6, 6), (1, 6), k=6, channels=6, per_channel=False, with_bias=True, axis=1, attributes={}
        )  # fmt: skip

    stem = layer(b.input((1, 6)))
    onnx.save(b.model(layer(b.add(layer(stem), layer(stem)))), tmp_path / "forked.onnx")
    graph = load(tmp_path / "forked.onnx").graph
    check_horizons(graph, lookahead)
    found = graph.tensors[horizons(Golden(graph).program, lookahead)[0].tensor].name
    sums = {tensor.name for tensor in graph.tensors} - {stem.name}
    assert (found == stem.name) if lookahead < 2 else (found in sums)


def test_the_answer_depends_on_nothing_but_the_horizon(bundled: Any) -> None:
    """Brute force: the tensor at the horizon, taken from a faulty run, gives the faulty answer on its own."""
    golden, graph = bundled.golden, bundled.network.graph
    image = bundled.inference(2)
    rng = np.random.default_rng(0)
    for lookahead in (0, 1, 2):
        for layer, horizon in enumerate(horizons(golden.program, lookahead)):
            channels = graph.layers[layer].shape.n * graph.layers[layer].shape.groups
            count = min(8, channels)
            n = rng.choice(channels, count, replace=False)
            m = rng.integers(0, graph.layers[layer].shape.m, count)
            again = golden.rerun(image, layer, m, n, np.full(count, 1 << 24))
            values = {graph.input: golden.tensor(image, graph.input)}
            values |= {op.target: golden.tensor(image, op.target) for op in graph.ops}
            values[horizon.tensor] = golden.tensor(again, horizon.tensor)
            late = finish(golden, values, horizon.op + 1)
            np.testing.assert_array_equal(late, golden.logits(again))


def finish(golden: Golden, values: dict[int, Any], first: int) -> Any:
    """Operators `first` and later on these tensors; the answer."""
    from emulator.graph.golden import NO_ERRORS, run_dense

    p = golden.program
    pool, acc = np.zeros(p.value_size, np.int8), np.zeros(p.acc_size, np.int32)
    for tensor, value in values.items():
        pool[p.tensor_start[tensor] : p.tensor_start[tensor + 1]] = value
    run_dense(p, pool, acc, first, len(p.ops), -1, NO_ERRORS, NO_ERRORS, NO_ERRORS)
    return pool[p.tensor_start[golden.graph.output] : p.tensor_start[golden.graph.output + 1]]


# ---- predicted changes and scores


def test_with_full_lookahead_the_predicted_change_is_the_change(bundled: Any) -> None:
    bench = bench_of(bundled)
    for image in (0, 4):
        faults = bench.space.draw(np.random.default_rng(image), 400)
        inference = bench.inference(image)
        strikes = strike(bench.golden, inference, bench.array, faults, by_cycles=False)
        change, alive = bench.scorer(image, ALL_LAYERS).predicted_change(faults.layer, strikes)
        moved = 0
        for i, layer in enumerate(faults.layer.tolist()):
            part = slice(strikes.ptr[i], strikes.ptr[i + 1])
            again = bench.golden.rerun(
                inference, layer, strikes.m[part], strikes.n[part], strikes.delta[part]
            )
            want = bench.golden.logits(again).astype(int) - bench.golden.logits(inference).astype(int)
            np.testing.assert_allclose(change[i], want, atol=1e-2)
            assert alive[i] == bool(want.any())
            moved += alive[i]
        assert moved > 20


@pytest.mark.parametrize("lookahead", [0, 1, 2])
def test_a_fault_that_scores_zero_is_masked(bundled: Any, lookahead: int) -> None:
    bench = bench_of(bundled)
    images, each = 20, 100
    zeros = 0
    for image in range(images):
        faults = bench.space.draw(np.random.default_rng((lookahead, image)), each)
        inference = bench.inference(image)
        strikes = strike(bench.golden, inference, bench.array, faults, by_cycles=False)
        score = bench.scorer(image, lookahead).score(faults.layer, strikes)
        assert ((score >= 0) & (score <= 1)).all()
        effects = Propagator(bench.golden).run(inference, faults.layer, strikes.errors)
        golden = bench.golden.logits(inference)
        harmless = (effects.logits == golden).all(axis=1)
        assert harmless[score == 0].all()
        zeros += int((score == 0).sum())
    assert zeros > 200


def test_scores_rank_what_flips_the_answer_first(digits: Any) -> None:
    """Among accumulator flips of the second convolution the flips of the top-1 score far above the rest."""
    space = FaultSpace(digits.network, digits.array, registers=["accumulator"], layers=["conv2"])
    margins = Workbench(digits.network, digits.array, space, digits.inputs[:200]).margins
    closest = np.argsort(margins, kind="stable")[:8]
    bench = Workbench(digits.network, digits.array, space, digits.inputs[closest])
    wins: list[float] = []
    for image in range(bench.images):
        faults = space.draw(np.random.default_rng(image), 1500)
        inference = bench.inference(image)
        strikes = strike(bench.golden, inference, bench.array, faults, by_cycles=False)
        effects = bench.propagator.run(inference, faults.layer, strikes.errors)
        answer = digits.network.graph.tensors[digits.network.graph.output]
        critical = judge(answer, bench.golden.logits(inference), effects.logits).sdc1
        score = bench.scorer(image, 0).score(faults.layer, strikes)
        if critical.any() and not critical.all():
            # The area under the ROC curve: how often a critical fault outranks a harmless one.
            above = score[critical][:, np.newaxis] - score[~critical]
            wins.append(float((above > 0).mean() + 0.5 * (above == 0).mean()))
    assert len(wins) >= 4
    assert np.mean(wins) > 0.9
