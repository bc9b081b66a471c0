"""Scores and their horizons: what is exact must be, and what scores zero must be harmless."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx_models import Builder, Sample, Tensor, quantised_models

from emulator.faults.salvo import strike
from emulator.faults.space import FaultSpace
from emulator.graph.golden import Golden
from emulator.graph.load import load
from emulator.graph.program import Rows
from emulator.graph.qgraph import HostOp, MacLayer, QuantGraph
from emulator.propagate.outcome import judge
from emulator.propagate.propagator import Propagator
from emulator.sampling.workbench import Workbench
from emulator.sensitivity.score import horizons

ALL_LAYERS = 99


def bench_of(bundled: Any, images: int = 30) -> Workbench:
    space = FaultSpace(bundled.network, bundled.array)
    return Workbench(bundled.network, bundled.array, space, bundled.inputs[:images])


# ---- horizons


def reads(op: Any) -> set[Any]:
    """Tensors an operator reads, whoever runs it."""
    return {op.source, getattr(op, "right", None)} - {None}


@dataclass(frozen=True, kw_only=True)
class Run:
    """Operators that follow each other in the kernels, and what others read later or is the answer."""

    ops: list[Any]
    kept: set[int]


def runs_of(graph: QuantGraph) -> list[Run]:
    """Between host segments and products outside the kernels."""
    runs: list[list[Any]] = [[]]
    kept = {graph.output}
    for op in graph.ops:
        if isinstance(op, HostOp):
            kept |= {graph.index.get(name) for name in op.inputs}
        elif isinstance(op, MacLayer) and not op.compiled:
            kept |= reads(op)
        else:
            runs[-1].append(op)
            continue
        runs.append([])
    found = [run for run in runs if run]
    return [Run(ops=run, kept=kept | _read_in(found[i + 1 :])) for i, run in enumerate(found)]


def _read_in(runs: list[list[Any]]) -> set[int]:
    return {tensor for run in runs for op in run for tensor in reads(op)}


def changed_by(run: Run, struck: int, last: int) -> tuple[set[int], int]:
    """Tensors computed up to operator `last` that may differ from golden, and MAC layers crossed on the way."""
    changed, crossed = {run.ops[struck].target}, 0
    for op in run.ops[struck + 1 : last + 1]:
        if changed & reads(op):
            changed.add(op.target)
            crossed += isinstance(op, MacLayer)
    return changed, crossed


def stale_after(run: Run, struck: int, last: int) -> set[int]:
    """Those of them that something later reads, or that are the answer."""
    return changed_by(run, struck, last)[0] & (_read_in([run.ops[last + 1 :]]) | run.kept)


def check_horizons(graph: QuantGraph, lookahead: int) -> None:
    """One tensor carries every change across the horizon, and no later operator would do within the budget."""
    found = iter(horizons(Golden(graph), lookahead))
    first = 0
    compiled = [layer for layer in graph.layers if layer.compiled]
    by_layer = dict(zip(map(id, graph.layers), found, strict=True))
    for run in runs_of(graph):
        for struck, op in enumerate(run.ops):
            if not isinstance(op, MacLayer):
                continue
            allowed = [
                last
                for last in range(struck, len(run.ops))
                if changed_by(run, struck, last)[1] <= lookahead and len(stale_after(run, struck, last)) == 1
            ]
            horizon = by_layer.pop(id(op))
            assert horizon is not None
            assert horizon.op - first in allowed
            assert stale_after(run, struck, horizon.op - first) == {horizon.tensor}
            assert horizon.tensor == stale_after(run, struck, allowed[-1]).pop()
        first += len(run.ops)
    assert len(by_layer) == len(graph.layers) - len(compiled)
    assert set(by_layer.values()) <= {None}


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
    found = graph.tensors[horizons(Golden(graph), lookahead)[0].tensor].name
    sums = {tensor.name for tensor in graph.tensors} - {stem.name}
    assert (found == stem.name) if lookahead < 2 else (found in sums)


def test_the_answer_depends_on_nothing_but_the_horizon(bundled: Any) -> None:
    """Brute force: the tensor at the horizon, taken from a faulty run, gives the faulty answer on its own."""
    golden, graph = bundled.golden, bundled.network.graph
    image = bundled.inference(2)
    rng = np.random.default_rng(0)
    for lookahead in (0, 1, 2):
        for layer, horizon in enumerate(horizons(golden, lookahead)):
            channels = graph.layers[layer].shape.n * graph.layers[layer].shape.groups
            count = min(8, channels)
            n = rng.choice(channels, count, replace=False)
            m = rng.integers(0, graph.layers[layer].shape.m, count)
            again = golden.rerun(image, layer, m, n, np.full(count, 1 << 24))
            late = image.copy()
            golden.tensor(late, horizon.tensor)[:] = golden.tensor(again, horizon.tensor)
            golden.run_step(late, Rows(horizon.op + 1, len(golden.program.ops)))
            np.testing.assert_array_equal(golden.logits(late), golden.logits(again))


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


def test_an_answer_that_is_read_again_stays_ahead(tmp_path: Path, digits: Any) -> None:
    """A second output made of the answer does not draw the horizon past it."""
    model = onnx.load(digits.path)
    answer = model.graph.node[-1].input[0]
    scale, zero = model.graph.node[-1].input[1:]
    model.graph.node.extend(
        [
            onnx.helper.make_node("Transpose", [answer], ["turned"], perm=[1, 0]),
            onnx.helper.make_node("DequantizeLinear", ["turned", scale, zero], ["second"]),
        ]
    )
    model.graph.output.append(onnx.helper.make_tensor_value_info("second", onnx.TensorProto.FLOAT, [10, "N"]))
    path = tmp_path / "two.onnx"
    onnx.save(model, path)
    graph = load(path, answer="logits").graph
    rows = Golden(graph).program.ops
    ahead = horizons(Golden(graph), ALL_LAYERS)
    assert any(graph.output == row[1] for row in rows)
    assert {horizon.tensor for horizon in ahead if horizon is not None} == {graph.output}
